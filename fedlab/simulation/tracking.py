"""The callback that feeds a tracker, and the numbers and pictures that trackers receive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from fedlab.core.trackers import TrackedRun, Tracker
from fedlab.evaluation.leaks import Leak, load_leaks
from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.results.attacks import attack_labels, best_of_each
from fedlab.results.folder import RunFolder
from fedlab.results.round_result import RoundResult
from fedlab.results.rows import RoundRow, values_by_column
from fedlab.simulation.callbacks import Callback

if TYPE_CHECKING:
    from fedlab.simulation.federation import Federation


class Tracking(Callback):
    """Gives a tracker the numbers and pictures of every round.

    Args:
        tracker: The tracker; a copy of it is used, so that a scenario keeps settings alone.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker.model_copy(deep=True)
        self._leaks: Sequence[Leak] = ()

    @property
    def label(self) -> str:
        """What messages call the tracker."""
        return f'tracker "{self._tracker.key}"'

    def on_start(self, federation: Federation) -> None:
        """Start the tracker, and give it the scores of the untrained network."""
        scenario = federation.scenario
        settings = scenario.model_dump(mode="json")
        self._tracker.start(
            TrackedRun(scenario.name, settings, federation.folder.path, federation.round)
        )
        if federation.round == 0:
            self._tracker.log(0, model_scalars(federation.folder.rounds()[0]), {})

    def on_leaks(self, federation: Federation, leaks: Sequence[Leak]) -> None:
        """Keep the reconstructions until the end of the round."""
        self._leaks = leaks

    def on_round(self, federation: Federation, result: RoundResult) -> None:
        """Give the tracker the numbers and pictures of the round."""
        leakage = pd.DataFrame([values_by_column(row) for row in result.leakage])
        ledger = federation.ledger
        scalars = (
            model_scalars(result.model)
            | (leakage_scalars(leakage) if len(leakage) else {})
            | epsilon_scalars(ledger, ledger.accounts)
        )
        self._tracker.log(result.model.round, scalars, leak_images(self._leaks))
        self._leaks = ()

    def on_end(self, federation: Federation) -> None:
        """Finish the tracker."""
        self._tracker.finish()


@dataclass(frozen=True)
class TrackedRound:
    """The numbers and pictures of one round, by tag; see ``Tracker.log``.

    Attributes:
        round: Round number; 0 for the untrained network.
        scalars: Numbers by tag.
        images: Pictures by tag.
    """

    round: int
    scalars: Mapping[str, float]
    images: Mapping[str, Tensor]


def tracked_rounds(run: RunFolder) -> Iterator[TrackedRound]:
    """The rounds of a run folder as a tracker receives them."""
    leakage, ledger = run.table("leakage"), run.ledger()
    pictures = {
        leaks[0].rows[0].round: leak_images(leaks) for leaks in map(load_leaks, run.leak_files)
    }
    for row in run.rounds():
        scalars = model_scalars(row)
        if row.round:
            scalars |= leakage_scalars(leakage[leakage["round"] == row.round])
            scalars |= epsilon_scalars(ledger.until(row.round), ledger.accounts)
        yield TrackedRound(row.round, scalars, pictures.get(row.round, {}))


def model_scalars(row: RoundRow) -> dict[str, float]:
    """The scores of the global model after a round; those that are not measured are left out."""
    scores = {
        "accuracy": row.accuracy,
        "loss": row.loss,
        "worst recall": row.worst_recall,
        "attack success rate": row.attack_success_rate,
        "attack success by chance": row.chance_success_rate,
    }
    return {f"model/{name}": value for name, value in scores.items() if value is not None}


def leakage_scalars(leakage: pd.DataFrame) -> dict[str, float]:
    """Median PSNR of each client and attack of a round, beside the PSNR of chance.

    Args:
        leakage: The rows of one round of ``leakage.csv``.
    """
    groups = best_of_each(leakage).groupby(["client", "attack"])
    found = {}
    for client, attack, psnr, chance in (
        groups[["psnr", "chance_psnr"]].median().reset_index().itertuples(index=False)
    ):
        found[f"PSNR/client {client}, {attack}"] = float(psnr)
        found[f"chance/client {client}, {attack}"] = float(chance)
    return found


def epsilon_scalars(ledger: Ledger, accounts: Sequence[Account]) -> dict[str, float]:
    """The total epsilon of each client in each account; infinite once it was unprotected.

    Args:
        ledger: The privacy accounts up to a round.
        accounts: The accounts to show; where there are several, the tag names the unit.
    """
    return {
        f"epsilon/client {client}" + (f", one {account.unit}" if len(accounts) > 1 else ""): (
            ledger.total(client, account)
        )
        for account in accounts
        for client in ledger.histories
    }


def leak_images(leaks: Iterable[Leak]) -> dict[str, Tensor]:
    """A picture of each reconstruction of a round, with true images above reconstructed ones."""
    seen: Counter[str] = Counter()
    pictures = {}
    for leak in leaks:
        attack = attack_labels(leak.table()).iloc[0]
        tag = f"reconstruction/client {leak.rows[0].client}, {attack}"
        seen[tag] += 1
        # A tracker takes two pictures of one tag and round for one.
        again = f", {seen[tag]}" if seen[tag] > 1 else ""
        pictures[tag + again] = _above(leak)
    return pictures


def _above(leak: Leak) -> Tensor:
    rows = [torch.cat(list(images), dim=2) for images in (leak.originals, leak.rebuilt)]
    # Images of which nothing was reconstructed are black.
    return torch.cat(rows, dim=1).nan_to_num(0.0).clamp(0, 1)
