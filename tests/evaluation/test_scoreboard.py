"""What a round is scored by: attack success, and how far the network goes of itself."""

import pytest
import torch

from fedlab.client.site import Site
from fedlab.evaluation.scoreboard import Scoreboard
from tests.federations import small


def scored(data, state=None):
    scenario = small(roles=[{"role": "poisoning", "clients": "0", "data": data}])
    site = Site.of(scenario)
    state = site.state if state is None else state(site.state)
    return Scoreboard.of(scenario, site).score(state, round=1, seconds=0.0), site


def always(label):
    """Weights that answer this class to everything."""

    def change(state):
        *_, bias = (name for name in state if name.endswith("bias"))
        answer = torch.full_like(state[bias], -1e6)
        answer[label] = 1e6
        return state | {bias: answer}

    return change


@pytest.mark.parametrize(
    "data",
    [
        {"attack": "badnets", "size": 2, "target": 3},
        {"attack": "hidden-trigger", "size": 2, "source": 1, "target": 3},
        {"attack": "gradient-matching", "target": 3},
        {"attack": "label-flip", "source": 1, "target": 3},
    ],
    ids=lambda data: data["attack"],
)
def test_who_answers_the_target_to_everything_reaches_no_more_than_chance(data):
    row, _ = scored(data, always(3))
    assert (row.attack_success_rate, row.chance_success_rate) == (1.0, 1.0)
    row, _ = scored(data, always(4))
    assert (row.attack_success_rate, row.chance_success_rate) == (0.0, 0.0)


def test_the_chance_of_a_trigger_is_that_of_the_same_images_without_it():
    row, site = scored({"attack": "badnets", "size": 2, "target": 3})
    others = site.test.labels != 3
    with torch.no_grad():
        logits = site.model(site.network_input(site.test.images[others]))
    assert row.chance_success_rate == pytest.approx((logits.argmax(1) == 3).double().mean().item())


def test_where_no_label_is_wanted_there_is_neither():
    row, _ = scored({"attack": "availability"})
    assert (row.attack_success_rate, row.chance_success_rate) == (None, None)
