"""Where a client keeps the poison that it made, so that it need not make it again."""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from fedlab.core.files import write_atomically
from fedlab.core.tensor_files import read_tensors

Poisoned = dict[str, Tensor]
"""Named tensors of a poisoned shard."""


class PoisonCache:
    """Poisons by what they were made for: the last few in memory, those to last in a folder.

    Every process of a run that has the folder finds what another one made, and so does a run that
    is gone on with; without a folder each process makes its own.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._recent: dict[str, tuple[str, Poisoned]] = {}

    def take(
        self, owner: str, key: str, make: Callable[[], Poisoned], *, lasting: bool
    ) -> Poisoned:
        """What was made for a key, or what ``make`` makes now.

        Args:
            owner: Whose it is; of each the last one is remembered.
            key: Tells poisons of one owner apart; good for a file name.
            make: Called if there is none.
            lasting: Whether to keep it in the folder too.
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
        """Remove from memory what is of no more use.

        Args:
            owners: How their names begin.
            but: How the keys of what stays begin.
        """
        self._recent = {
            owner: (key, found)
            for owner, (key, found) in self._recent.items()
            if key.startswith(but) or not owner.startswith(owners)
        }
