"""How good the global model is, and how far the scenario's poisonings got, on the test images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from fedlab.client.site import Site
from fedlab.errors import BadInput
from fedlab.evaluation.model import evaluate, success_rate
from fedlab.evaluation.verdict import success_above_chance
from fedlab.poisons import data_poison
from fedlab.poisons.workshop import Goal
from fedlab.runs.rows import RoundRow
from fedlab.scenario import Scenario
from fedlab.seeds import generator


@dataclass(frozen=True)
class Scoreboard:
    """Scores the global model of one scenario.

    Attributes:
        site: The test images, and a network to load the weights into.
        goals: What each kind of poisoned data wants.
    """

    site: Site
    goals: tuple[Goal, ...]

    @classmethod
    def of(cls, scenario: Scenario, site: Site) -> "Scoreboard":
        """The scoreboard of a scenario.

        Raises:
            BadInput: If a poisoning does not fit the images: a trigger larger than they are,
                a class that they do not have, or one of which there is no test image.
        """
        kinds = dict.fromkeys(role.data for role in scenario.poisons if role.data is not None)
        found = []
        for kind in kinds:
            try:
                goal = data_poison(kind).goal(site.test, partial(generator, site.seed))
            except ValueError as error:
                raise BadInput(f"{kind.attack}: {error}") from error
            if goal is not None:
                if not len(goal.images):
                    raise BadInput(
                        f"{kind.attack}: no test image is of a class that would show whether it "
                        "succeeds: raise data.test"
                    )
                found.append(goal)
        return cls(site, tuple(found))

    def score(self, state: Mapping[str, Tensor], *, round: int, seconds: float) -> RoundRow:
        """Evaluate global weights.

        Args:
            state: Global parameters and buffers.
            round: The round that they come from.
            seconds: Wall time of that round.
        """
        self.site.load(state)
        data, model, normalise = self.site.data, self.site.model, self.site.network_input
        scores = evaluate(model, data.test_images, data.test_labels, normalise)
        reached = [
            (
                success_rate(model, each.images, each.wanted, normalise),
                scores.taken_for(each.chance),
            )
            for each in self.goals
        ]
        success, chance = max(
            reached, key=lambda each: success_above_chance(*each), default=(None, math.nan)
        )
        return RoundRow(
            round=round,
            accuracy=scores.accuracy,
            loss=scores.loss,
            worst_recall=scores.worst_recall,
            attack_success_rate=success,
            seconds=seconds,
            chance_success_rate=None if math.isnan(chance) else chance,
        )
