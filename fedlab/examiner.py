"""Lets the server's attacker loose on a Capture and the Referee judge what it found."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from attacks.reconstruction import Reconstruction
from fedlab.client.plan import Plan
from fedlab.client.site import Site, network_of
from fedlab.evaluation.referee import Referee
from fedlab.planning import plan_for
from fedlab.privacy.spending import History
from fedlab.report.figures import ReconstructionRow, reconstruction_figure
from fedlab.runs.rows import LeakageRow
from fedlab.scenario import Scenario
from fedlab.scenario_tables import Reconstruct
from fedlab.seeds import generator
from fedlab.server.attacker import Attacker
from fedlab.server.captures import Capture


@dataclass(frozen=True)
class Leak:
    """What the server rebuilt of one client in one round, and how good it is.

    Attributes:
        rows: Scores, one for each true image and target.
        truth: float32 ``[n, channels, height, width]`` in [0, 1]: what the client's network saw.
        rebuilt: What the attacker made of it, matched.
        reconstruction: The attacker's own result.
    """

    rows: tuple[LeakageRow, ...]
    truth: Tensor = field(repr=False)
    rebuilt: Tensor = field(repr=False)
    reconstruction: Reconstruction | None = field(default=None, repr=False)

    def table(self) -> pd.DataFrame:
        """The scores as a table."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def picture_row(self) -> ReconstructionRow:
        """The images as a row of a picture."""
        shown = [row for row in self.rows if row.target == "mixed"] or list(self.rows)
        first = shown[0]
        known = "given" if first.known_labels else "inferred"
        return ReconstructionRow(
            label=f"round {first.round} · client {first.client} · {first.defenses} · "
            f"labels {known} · {first.setting}",
            defense=first.defenses,
            truth=self.truth,
            guess=self.rebuilt,
            psnr=[row.psnr for row in shown],
            ssim=[row.ssim for row in shown],
            verdict=[row.verdict for row in shown],
        )

    def show(self) -> Figure:
        """True images above rebuilt ones."""
        first = self.rows[0]
        return picture([self], title=f"What did the server see of client {first.client}?")

    def _repr_html_(self) -> str:
        columns = ["image", "target", "psnr", "ssim", "chance_psnr", "setting", "verdict"]
        return str(self.table()[columns].round(2).to_html(index=False))


def picture(leaks: Sequence[Leak], *, title: str) -> Figure:
    """Several leaks below one another."""
    return reconstruction_figure([leak.picture_row() for leak in leaks], title=title)


class Examiner:
    """Attacks and scores Captures of one scenario's federation.

    Args:
        scenario: Names data and network.
        site: The clients' images.
    """

    def __init__(self, scenario: Scenario, site: Site) -> None:
        self._scenario = scenario
        self._site = site
        self._referee = Referee(site)

    @cached_property
    def attacker(self) -> Attacker:
        """The attacker, with a network of its own."""
        data = self._site.data
        return Attacker(
            model=network_of(self._scenario, data),
            shape=data.shape,
            num_classes=data.num_classes,
            mean=data.mean,
            std=data.std,
            device=self._site.device,
        )

    def examine(
        self,
        capture: Capture,
        settings: Reconstruct,
        history: History,
        *,
        scenario: Scenario | None = None,
    ) -> Leak | None:
        """Attack a Capture and score the result.

        Args:
            capture: What the server saw.
            settings: How to attack.
            history: The client's accountant history; what comes before the round keys its noise.
            scenario: The scenario as it stood in that round, if it was toggled since.

        Returns:
            ``None`` if the client's Poisson batch was empty: there is nothing to rebuild.

        Raises:
            ValueError: If the payload cannot be attacked.
        """
        client = capture.clients[0]
        plan: Plan = plan_for(scenario or self._scenario, round=capture.round, client=client)
        before = tuple(entry for entry in history if entry.round < capture.round)
        truth = self._referee.truth(capture, plan, before)
        if not len(truth.originals):
            return None
        labels = truth.labels if truth.mixed_labels is None else truth.mixed_labels
        started = generator(self._scenario.seed, "attack", capture.round, client)
        reconstruction = self.attacker.attack(
            capture,
            settings,
            labels=labels if settings.labels == "known" else None,
            generator=started,
        )
        score = self._referee.score(
            capture, plan, truth, reconstruction, preset=settings.preset
        )
        return Leak(score.rows, score.truth.cpu(), score.rebuilt.cpu(), reconstruction)
