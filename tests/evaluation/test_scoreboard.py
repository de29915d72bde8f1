"""What a round is scored by: attack success, and how far the network goes of itself."""

import pytest
import torch

from fedlab.client.federated_data import FederatedData
from fedlab.evaluation.scoreboard import Scoreboard
from tests.federations import small

BADNETS = {"attack": "badnets", "size": 2, "target": 3}


def scored(*data, state=None):
    roles = [
        {"role": "poisoning", "clients": str(client), "data": each}
        for client, each in enumerate(data)
    ]
    scenario = small(roles=roles)
    federated = FederatedData.of(scenario)
    state = federated.state if state is None else state(federated.state)
    return Scoreboard.of(scenario, federated).score(state, round=1, seconds=0.0), federated


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
        BADNETS,
        {"attack": "hidden-trigger", "size": 2, "source": 1, "target": 3},
        {"attack": "gradient-matching", "target": 3},
        {"attack": "label-flip", "source": 1, "target": 3},
    ],
    ids=lambda data: data["attack"],
)
def test_constant_prediction_is_at_chance_level(data):
    row, _ = scored(data, state=always(3))
    assert (row.attack_success_rate, row.chance_success_rate) == (1.0, 1.0)
    row, _ = scored(data, state=always(4))
    assert (row.attack_success_rate, row.chance_success_rate) == (0.0, 0.0)


def test_chance_of_a_trigger_uses_clean_images():
    row, federated = scored(BADNETS)
    others = federated.test.labels != 3
    with torch.no_grad():
        logits = federated.model(federated.network_input(federated.test.images[others]))
    assert row.chance_success_rate == pytest.approx((logits.argmax(1) == 3).double().mean().item())


def test_poisoning_furthest_above_chance_counts():
    # A network that answers 3 to everything reaches the backdoor by chance; of flips from every
    # class to 3 chance is not known, and the rate stands.
    flip = {"attack": "label-flip", "pairs": [[label, 3] for label in range(10) if label != 3]}
    for data in ([BADNETS, flip], [flip, BADNETS]):
        row, _ = scored(*data, state=always(3))
        assert (row.attack_success_rate, row.chance_success_rate) == (1.0, None)


def test_chance_is_nan_without_clean_images():
    pairs = [[label, 3] for label in range(10) if label != 3]
    row, _ = scored({"attack": "label-flip", "pairs": pairs})
    assert row.attack_success_rate is not None
    assert row.chance_success_rate is None


def test_chance_of_flipping_all_labels():
    for label in range(10):
        row, _ = scored({"attack": "label-flip"}, state=always(label))
        assert row.attack_success_rate == pytest.approx(row.chance_success_rate, abs=0.1)


def test_where_no_label_is_wanted_there_is_neither():
    row, _ = scored({"attack": "availability"})
    assert (row.attack_success_rate, row.chance_success_rate) == (None, None)
