"""What a user may ask of a benchmark."""

from dataclasses import dataclass
from pathlib import Path

from fedlab.errors import BadInput


@dataclass(frozen=True)
class Options:
    """The options of the command line; ``None`` leaves the choice to the benchmark.

    Attributes:
        repeats: How often to measure, at least 1.
        data: An .npz file with images.
        picture: A PNG file to write.
        device: Where to compute: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        BadInput: If there would be nothing to measure.
    """

    repeats: int | None = None
    data: Path | None = None
    picture: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.repeats is not None and self.repeats < 1:
            raise BadInput(f"--repeats is {self.repeats}, but must be at least 1")

    def __str__(self) -> str:
        """As on the command line, with the names of files only: folders are nobody's business."""
        repeats = f" --repeats {self.repeats}" if self.repeats else ""
        data = f" --data {self.data.name}" if self.data else ""
        return repeats + data + (f" --device {self.device}" if self.device != "cpu" else "")
