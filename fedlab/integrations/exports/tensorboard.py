"""The TensorBoard event file of a run folder."""

from pathlib import Path

from fedlab.core.errors import BadInput
from fedlab.core.trackers import TrackedRun
from fedlab.integrations.tensorboard import TensorBoard
from fedlab.results.folder import RunFolder
from fedlab.simulation.tracking import tracked_rounds


def write_events(run: RunFolder, folder: Path) -> None:
    """Write an event file of a run folder; see ``Tracker.log`` for the tags.

    Args:
        run: A run that has ended at least one round.
        folder: Folder of the event file, which is created; it must not hold events already.

    Raises:
        BadInput: If TensorBoard is not installed, or the folder holds events.
    """
    # TensorBoard draws two files in one folder as one curve that runs back and forth.
    if next(folder.glob("events.out.tfevents.*"), None) is not None:
        raise BadInput(f"{folder} holds events already: name another folder with --out")
    tracker = TensorBoard(folder=".")
    tracker.start(TrackedRun(folder.name, {}, folder))
    for each in tracked_rounds(run):
        tracker.log(each.round, each.scalars, each.images)
    tracker.finish()
