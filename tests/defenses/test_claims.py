"""The ledger shows no guarantee that a foreign defense does not give."""

import math

import pytest

from fedlab import BadInput, Federation, RunFailed
from tests.federations import small

HERE = "tests.defenses.claims"


def federation(*names, rounds=2, **tables):
    entries = [{"name": name if "-" in name else f"{HERE}:{name}"} for name in names]
    return Federation(small(f"rounds={rounds}", defenses=entries, **tables))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("OwnGradient", "dp-sgd"), "list that defense after dp-sgd"),
        (("dp-sgd", "ReplacesCharges"), "removed charges of other defenses"),
        (("FirstParticipation",), "another round or participation"),
        (("NoSensitivity",), "not by its own account"),
        (("WithholdsEarly",), "only an inspection may withhold"),
        (("CutsShort",), "other names or shapes"),
        (("BadFacts",), r"BadFacts.+ failed: KeyError: .facts."),
    ],
)
def test_wrong_claim_fails_the_run(names, sentence):
    with pytest.raises(RunFailed, match=sentence):
        federation(*names).run()


@pytest.mark.parametrize("other", ["mixup", "cutmix", "adversarial-poisoning", "soteria"])
@pytest.mark.parametrize("turned", [False, True])
def test_per_example_epsilon_beside_mixing_is_refused(other, turned):
    entries = [{"name": f"{HERE}:PerExample"}, {"name": other}]
    with pytest.raises(BadInput, match=r"both .*PerExample"):
        small(defenses=entries[::-1] if turned else entries)


@pytest.mark.parametrize("name", ["Inspects", "OwnGate"])
def test_inspection_opens_the_round(name):
    few = {"train": 8, "test": 8, "clients": 4}  # two images each, or the gate takes a minute
    done = federation("dp-sgd", name, rounds=1, data=few)
    done.step()
    assert all(math.isinf(done.ledger.total(client)) for client in range(4))
