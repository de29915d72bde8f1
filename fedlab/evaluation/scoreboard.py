"""How good the global model is, and how far the scenario's poisonings got, on the test images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from attacks.poisoning.label_flip import flip
from attacks.poisoning.triggers import stamp
from fedlab.client.roles import BadNets, LabelFlip
from fedlab.client.site import Site
from fedlab.errors import BadInput
from fedlab.evaluation.model import attack_success_rate, evaluate, flip_success_rate
from fedlab.runs.rows import RoundRow
from fedlab.scenario import Scenario


@dataclass(frozen=True)
class Scoreboard:
    """Scores the global model of one scenario.

    Attributes:
        site: The test images, and a network to load the weights into.
        successes: One attack success rate for each kind of poisoned data.
    """

    site: Site
    successes: tuple[Callable[[], float], ...]

    @classmethod
    def of(cls, scenario: Scenario, site: Site) -> "Scoreboard":
        """The scoreboard of a scenario.

        Raises:
            BadInput: If a poisoning does not fit the images: a trigger larger than they are,
                or a class that they do not have.
        """
        kinds = dict.fromkeys(role.data for role in scenario.poisons if role.data is not None)
        return cls(site, tuple(_success(kind, site) for kind in kinds))

    def score(self, state: Mapping[str, Tensor], *, round: int, seconds: float) -> RoundRow:
        """Evaluate global weights.

        Args:
            state: Global parameters and buffers.
            round: The round that they come from.
            seconds: Wall time of that round.
        """
        self.site.load(state)
        data = self.site.data
        scores = evaluate(
            self.site.model, data.test_images, data.test_labels, self.site.network_input
        )
        return RoundRow(
            round=round,
            accuracy=scores.accuracy,
            loss=scores.loss,
            attack_success_rate=max((rate() for rate in self.successes), default=None),
            seconds=seconds,
        )


def _success(kind: LabelFlip | BadNets, site: Site) -> Callable[[], float]:
    data = site.data
    classes = [c for c in (kind.target, getattr(kind, "source", None)) if c is not None]
    if any(c >= data.num_classes for c in classes):
        raise BadInput(
            f"{kind.attack} names class {max(classes)}, but {data.name} has classes 0 to "
            f"{data.num_classes - 1}"
        )
    if isinstance(kind, BadNets):
        if kind.size > min(data.shape[1:]):
            raise BadInput(
                f"a trigger of {kind.size} pixels does not fit into images of "
                f"{data.shape[1]} x {data.shape[2]}"
            )
        return partial(
            attack_success_rate,
            site.model,
            data.test_images,
            data.test_labels,
            site.network_input,
            trigger=partial(stamp, size=kind.size, corner=kind.corner),
            target=kind.target,
        )
    wrong = flip(
        data.test_labels, num_classes=data.num_classes, source=kind.source, target=kind.target
    )
    return partial(
        flip_success_rate,
        site.model,
        data.test_images,
        data.test_labels,
        site.network_input,
        wrong=wrong,
    )
