"""A cache of poisons, so that a client need not make the same poison again."""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from fedlab.core.files import write_atomically
from fedlab.core.tensor_files import read_tensors

Tensors = dict[str, Tensor]
"""The tensors of one cached poison by name."""


class PoisonCache:
    """A cache that remembers the last result of every owner, and stores lasting ones in a folder.

    All processes of a run share the folder, and a resumed run finds it again. Without a folder,
    each process makes its own poisons.

    Attributes:
        folder: Folder of the lasting results; ``None`` keeps everything in memory.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._recent: dict[str, tuple[str, Tensors]] = {}

    def take(self, owner: str, key: str, make: Callable[[], Tensors], *, lasting: bool) -> Tensors:
        """Return the result for a key, and make it if it is not stored.

        Args:
            owner: Owner of the result; only the last result of each owner stays in memory.
            key: Name of the result, unique for the owner and usable as a file name.
            make: Makes the result.
            lasting: Also store the result in the folder.
        """
        name, found = self._recent.get(owner, ("", {}))
        if name == key:
            return found
        file = self.folder / f"{key}.safetensors" if self.folder and lasting else None
        if file is not None and file.is_file():
            found, _ = read_tensors(file)
        else:
            found = make()
            if file is not None:
                file.parent.mkdir(exist_ok=True)
                kept = {part: tensor.cpu().contiguous() for part, tensor in found.items()}
                write_atomically(file, save(kept))
        self._recent[owner] = (key, found)
        return found

    def forget(self, owners: str, *, but: str) -> None:
        """Remove outdated results from memory.

        Args:
            owners: Prefix of the owners whose results are removed.
            but: Prefix of the keys whose results stay.
        """
        self._recent = {
            owner: (key, found)
            for owner, (key, found) in self._recent.items()
            if key.startswith(but) or not owner.startswith(owners)
        }
