"""Scores of the global model on the test images: accuracy, and success of the data poisons."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.core.network_errors import names_network
from fedlab.core.plugins import PluginFailed
from fedlab.core.seeds import generator
from fedlab.evaluation.model import ModelScore, evaluate, success_rate
from fedlab.metrics.verdict import success_above_chance
from fedlab.poisoning import Goal
from fedlab.results.rows import RoundRow
from fedlab.scenario.scenario import Scenario


@dataclass(frozen=True)
class Scoreboard:
    """Scores the global model of one scenario.

    Attributes:
        federated: The test images, and a network to load the weights into.
        goals: Goal of every data poison in the scenario that has one.
        measure: Measures global weights on the test images, where others share this work.
    """

    federated: FederatedData
    goals: tuple[Goal, ...]
    measure: Callable[[Mapping[str, Tensor]], ModelScore] | None = None

    @classmethod
    def of(cls, scenario: Scenario, federated: FederatedData) -> "Scoreboard":
        """Make the scoreboard of a scenario.

        Raises:
            BadInput: If a data poison does not fit the images, for example because its trigger is
                larger than they are, or because no test image is of the class that it needs.
        """
        poisons = dict.fromkeys(role.data for role in scenario.poisons if role.data is not None)
        try:
            found = [
                poison.find_goal(federated.test, partial(generator, federated.seed))
                for poison in poisons
            ]
        except (ValueError, PluginFailed) as error:
            raise BadInput(str(error)) from error
        return cls(federated, tuple(goal for goal in found if goal is not None))

    @names_network(lambda self: self.federated.network)
    def score(self, state: Mapping[str, Tensor], *, round: int, seconds: float) -> RoundRow:
        """Evaluate global weights; of several poisons the most successful above chance counts.

        Args:
            state: Global parameters and buffers by name.
            round: Round that the weights come from.
            seconds: Wall time of that round in seconds.
        """
        self.federated.load(state)
        data, model, normalise = (
            self.federated.data,
            self.federated.model,
            self.federated.network_input,
        )
        if self.measure is None:
            scores = evaluate(model, data.test_images, data.test_labels, normalise)
        else:
            scores = self.measure(state)
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
            chance_accuracy=scores.chance_accuracy,
            test_images=int(scores.confusion.sum()),
        )
