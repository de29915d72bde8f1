"""A cache of poisons, which a client need not make again, and of global models that it received."""

from collections import defaultdict
from collections.abc import Callable, Mapping
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
        self._globals: dict[int, dict[int, Tensors]] = defaultdict(dict)

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

    def keep_global(self, client: int, round: int, parameters: Mapping[str, Tensor]) -> None:
        """Store the global parameters that a client received, beside those of the time before.

        Two are enough: a round that is run again, or replayed right after it, finds what was
        before it. Without a folder, a process knows only what its own clients received.
        """
        rounds = self._global_rounds(client)
        if round <= max(rounds, default=0):
            return
        kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in parameters.items()}
        if self.folder is None:
            self._globals[client] = {
                r: v for r, v in self._globals[client].items() if r in rounds[-1:]
            }
            self._globals[client][round] = kept
            return
        file = _global_file(self.folder, client, round)
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, save({name: tensor.contiguous() for name, tensor in kept.items()}))
        for old in rounds[:-1]:
            _global_file(self.folder, client, old).unlink(missing_ok=True)

    def global_before(self, client: int, round: int) -> Tensors | None:
        """The global parameters that a client received last before a round, if they are stored."""
        last = max((each for each in self._global_rounds(client) if each < round), default=None)
        if last is None:
            return None
        if self.folder is None:
            return self._globals[client][last]
        return read_tensors(_global_file(self.folder, client, last))[0]

    def forgot_global(self, client: int, round: int) -> bool:
        """Whether the client may have received something before a round that is gone by now."""
        rounds = self._global_rounds(client)
        return len(rounds) > 1 and round <= rounds[0]

    def _global_rounds(self, client: int) -> list[int]:
        """Rounds of which global parameters are stored, in ascending order."""
        if self.folder is None:
            return sorted(self._globals[client])
        files = self.folder.glob(f"global-{client}-*.safetensors")
        return sorted(int(file.stem.rsplit("-", 1)[1]) for file in files)


def _global_file(folder: Path, client: int, round: int) -> Path:
    return folder / f"global-{client}-{round}.safetensors"
