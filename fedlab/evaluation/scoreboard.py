"""How good the global model is, and how far the scenario's poisonings got, on the test images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.core.seeds import generator
from fedlab.evaluation.model import evaluate, success_rate
from fedlab.metrics.verdict import success_above_chance
from fedlab.poisoning import data_poison
from fedlab.poisoning.context import Goal
from fedlab.results.rows import RoundRow
from fedlab.scenario.scenario import Scenario


@dataclass(frozen=True)
class Scoreboard:
    """Scores the global model of one scenario.

    Attributes:
        federated: The test images, and a network to load the weights into.
        goals: What each kind of poisoned data wants.
    """

    federated: FederatedData
    goals: tuple[Goal, ...]

    @classmethod
    def of(cls, scenario: Scenario, federated: FederatedData) -> "Scoreboard":
        """The scoreboard of a scenario.

        Raises:
            BadInput: If a poisoning does not fit the images: a trigger larger than they are,
                a class that they do not have, or one of which there is no test image.
        """
        kinds = dict.fromkeys(role.data for role in scenario.poisons if role.data is not None)
        found = []
        for kind in kinds:
            try:
                goal = data_poison(kind).goal(federated.test, partial(generator, federated.seed))
            except ValueError as error:
                raise BadInput(f"{kind.attack}: {error}") from error
            if goal is not None:
                if not len(goal.images):
                    raise BadInput(
                        f"{kind.attack}: no test image is of a class that would show whether it "
                        "succeeds: raise data.test"
                    )
                found.append(goal)
        return cls(federated, tuple(found))

    def score(self, state: Mapping[str, Tensor], *, round: int, seconds: float) -> RoundRow:
        """Evaluate global weights.

        Args:
            state: Global parameters and buffers.
            round: The round that they come from.
            seconds: Wall time of that round.
        """
        self.federated.load(state)
        data, model, normalise = (
            self.federated.data,
            self.federated.model,
            self.federated.network_input,
        )
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
