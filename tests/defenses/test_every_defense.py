"""Every defense runs in a federation, alone and in stacks."""

import math

import pytest

from fedlab.defenses import DEFENSES
from fedlab.privacy.accounts import ACCOUNTS
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture
from tests.federations import finished, small

SECURE = "secure-aggregation"
ALONE = [name for name in DEFENSES.names if name != SECURE]
"""Defenses of clients 0, 1, 2, ...; two more clients are summed, and the last has none."""

STACK = ["flip-crop", "cutout", "maxup", "dp-instahide", "soteria", "pruning", "quantisation"]


def scenario(defenses, *, clients, **tables):
    data = {"train": 12 * clients, "test": 40, "clients": clients}
    return small(rounds=2, data=data, defenses=defenses, **tables)


@pytest.mark.parametrize("leaking", [False, True])
def test_every_defense_runs_on_its_own_client(leaking):
    count = len(ALONE)
    quick = {"leakage-gate": {"iterations": 2}, "dcs-2": {"iterations": 2}}
    each = [{"name": n, "clients": str(c), **quick.get(n, {})} for c, n in enumerate(ALONE)]
    run = scenario(
        [*each, {"name": SECURE, "clients": f"{count}-{count + 1}"}],
        clients=count + 3,
        roles=[{"role": "leaking", "clients": "all", "batch_size": 2}] if leaking else [],
    )
    assert Scenario.parse(run.to_toml()) == run
    federation = finished(run)
    table = federation.folder.table("clients")
    assert set(table["status"]) <= {"ok", "withheld"}, table["reason"].tolist()
    assert set(table["defenses"]) == {*DEFENSES.names, "none"}
    ledger = federation.ledger
    assert all(len(history) == 2 for history in ledger.histories.values())
    for name in ("dp-sgd", "clip-noise"):
        covered = [c for c in ledger.histories if math.isfinite(ledger.total(c, ACCOUNTS[name]))]
        assert covered == [ALONE.index(name)]


def test_tall_stack_runs_in_the_listed_order():
    defenses = [{"name": name, **({"k": 2} if name == "dp-instahide" else {})} for name in STACK]
    run = scenario([*defenses, {"name": "clip-noise"}, {"name": SECURE}], clients=3)
    federation = finished(run)
    table = federation.folder.table("clients")
    assert (table["status"] == "ok").all(), table["reason"].tolist()
    assert set(table["defenses"]) == {"+".join([*STACK, "clip-noise", SECURE])}
    mechanisms = [entry.mechanism for entry in federation.ledger.histories[0]]
    assert mechanisms == ["dp-instahide", "clip-noise"] * 2


@pytest.mark.parametrize(
    ("order", "zeros"), [(("clip-noise", "pruning"), 0.9), (("pruning", "clip-noise"), 0.0)]
)
def test_defense_listed_first_is_applied_first(order, zeros):
    run = scenario(
        [{"name": name} for name in order],
        clients=2,
        roles=[{"role": "leaking", "clients": "0"}],
        captures={"keep": "all"},
    )
    federation = finished(run)
    capture = Capture.load(federation.folder.captures, round=1, client=0)
    largest = max(capture.payload.tensors.values(), key=lambda tensor: tensor.numel())
    assert float((largest == 0).float().mean()) == pytest.approx(zeros, abs=0.01)
