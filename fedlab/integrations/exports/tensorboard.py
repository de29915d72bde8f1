"""A run as TensorBoard shows it: curves by round, and the pictures of reconstructions."""

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.evaluation.leaks import Leak, load_leaks
from fedlab.results.attacks import attack_labels, best_of_each
from fedlab.results.folder import RunFolder

Scalar = tuple[str, float, int]
"""Tag, value and round."""


def write_events(run: RunFolder, folder: Path) -> None:
    """Write an event file of a run: ``tensorboard --logdir FOLDER`` shows it.

    Tags are ``model/accuracy``, ``model/loss``, ``model/worst recall``,
    ``model/attack success rate`` and ``model/attack success by chance``, ``PSNR/client 0, ATTACK``
    and beside it ``chance/client 0, ATTACK``, both the median over images, ``epsilon/client 0``
    (infinite once it took part unprotected) and, as images, ``reconstruction/client 0, ATTACK``
    with true images above rebuilt ones. ATTACK is such as ``fast, labels known``, with
    ``, malicious server`` where it was one; a second entry of the same attack on a client in a
    round has ``, 2`` behind.

    Args:
        run: That has ended at least one round.
        folder: Made if it is not there; it must not hold events already.

    Raises:
        BadInput: If TensorBoard is not installed, or the folder holds events.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise BadInput(
            "TensorBoard is not installed, and its files cannot be written without it: "
            'pip install "fedlab-privacy[tensorboard]"'
        )
    # Two files in one folder would be drawn as one curve that runs back and forth.
    if next(folder.glob("events.out.tfevents.*"), None) is not None:
        raise BadInput(f"{folder} holds events already: name another folder with --out")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for tag, value, round in scalars_of(run):
            writer.add_scalar(tag, value, round)
        for tag, picture, round in pictures_of(run):
            writer.add_image(tag, picture, round)


def scalars_of(run: RunFolder) -> Iterator[Scalar]:
    """Every number of a run that is drawn against the round."""
    for row in run.rounds():
        for name, value in (
            ("accuracy", row.accuracy),
            ("loss", row.loss),
            ("worst recall", row.worst_recall),
            ("attack success rate", row.attack_success_rate),
            ("attack success by chance", row.chance_success_rate),
        ):
            if value is not None:
                yield f"model/{name}", value, row.round
    best = best_of_each(run.table("leakage"))
    medians = best.groupby(["client", "attack", "round"])[["psnr", "chance_psnr"]].median()
    for client, attack, at, psnr, chance in medians.reset_index().itertuples(index=False):
        yield f"PSNR/client {client}, {attack}", float(psnr), int(at)
        yield f"chance/client {client}, {attack}", float(chance), int(at)
    ledger = run.ledger()
    for round in sorted({row.round for row in run.rounds()} - {0}):
        until = ledger.until(round)
        for account in ledger.accounts:
            for client in until.histories:
                whose = f"epsilon/client {client}"
                several = f", one {account.unit}" if len(ledger.accounts) > 1 else ""
                yield whose + several, until.total(client, account), round


def pictures_of(run: RunFolder) -> Iterator[tuple[str, Tensor, int]]:
    """Every reconstruction with its tag and round, true images above rebuilt ones."""
    for file in run.leak_files:
        seen: Counter[str] = Counter()
        for leak in load_leaks(file):
            attack = attack_labels(leak.table()).iloc[0]
            tag = f"reconstruction/client {leak.rows[0].client}, {attack}"
            seen[tag] += 1
            # Two pictures of one tag and round would be told as one.
            again = f", {seen[tag]}" if seen[tag] > 1 else ""
            yield tag + again, _above(leak), leak.rows[0].round


def _above(leak: Leak) -> Tensor:
    """True images above rebuilt ones, float ``[channels, 2 * height, n * width]``."""
    rows = [torch.cat(list(images), dim=2) for images in (leak.originals, leak.rebuilt)]
    # Black where nothing was rebuilt.
    return torch.cat(rows, dim=1).nan_to_num(0.0).clamp(0, 1)
