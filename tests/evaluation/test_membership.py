"""Members behind a kept update stand out, the less the better they are defended."""

import pytest

from fedlab import BadInput
from tests.federations import finished, small

LEAK = {"role": "leaking", "clients": "0", "batch_size": 4}
FITTED = {"epochs": 20, "batch_size": 8, "lr": 0.1}


@pytest.fixture(scope="module")
def overfitted():
    return finished(small(rounds=1, roles=[LEAK], training=FITTED, captures={"keep": "all"}))


@pytest.mark.parametrize("test", ["loss", "loss-drop", "alignment", "lira"])
def test_members_of_an_overfitted_client_stand_out(overfitted, test):
    found = overfitted.membership(round=1, client=1, test=test, non_members=80, shadows=4)
    assert found.auc > 0.55
    assert (found.members, found.non_members) == (40, 80)
    assert found.tpr == {0.001: None, 0.01: None}  # 80 others say nothing of such rates


def test_gradient_reveals_membership_of_its_batch(overfitted):
    found = overfitted.membership(round=1, client=0, test="alignment")
    assert found.members == 4
    assert found.auc > 0.95


def test_noise_hides_the_members():
    private = {"name": "dp-sgd", "noise_multiplier": 4.0, "clipping_norm": 0.1}
    scenario = small(rounds=1, defenses=[private], captures={"keep": "all"}, seed=1)
    found = finished(scenario).membership(round=1, client=1, test="loss-drop")
    assert abs(found.auc - 0.5) < 0.15


def test_what_was_not_kept_cannot_be_tested(overfitted):
    with pytest.raises(BadInput, match="no reply"):
        overfitted.membership(round=2, client=0)
    with pytest.raises(BadInput, match="must be even"):
        overfitted.membership(round=1, client=1, test="lira", shadows=3)
