"""Tests that update attacks do more harm than random updates."""

import pytest

from fedlab import Federation, Scenario

ROLE = {"role": "poisoning", "clients": "7-10"}
KRUM = {
    "strategy": "MultiKrum",
    "options": {"num_malicious_nodes": 4, "num_nodes_to_select": 7},
}


def run(update, server=None):
    federation = Federation(
        Scenario(
            rounds=3,
            data={"train": 550, "test": 300, "clients": 11},
            model={"name": "mlp"},
            training={"epochs": 3, "batch_size": 16, "lr": 0.05, "momentum": 0.9},
            roles=[ROLE | {"update": update}] if update else [],
            server=server or {},
        )
    )
    federation.run()
    return federation.folder.rounds()[-1].loss, federation.folder.table("clients")


@pytest.fixture(scope="module")
def honest():
    loss, rows = run(None)
    return loss, rows["update_norm"].mean()


@pytest.mark.parametrize(
    "update",
    [
        {"attack": "sign-flip", "factor": 3.0},
        {"attack": "inner-product", "epsilon": 3.0},
    ],
    ids=lambda update: update["attack"],
)
def test_loud_attacks_beat_random_updates(update, honest):
    loss, rows = run(update)
    norm = rows[rows["client"] >= 7]["update_norm"].mean()
    control, _ = run({"attack": "gaussian", "factor": norm / honest[1]})
    assert loss > control + 1
    assert control > honest[0]


@pytest.mark.parametrize(
    ("update", "harm"),
    [
        ({"attack": "little-is-enough", "z": 1.0}, 0.03),
        ({"attack": "little-is-enough", "z": 1.0, "knows": "everyone"}, 0.03),
        ({"attack": "min-max"}, 0.05),
        ({"attack": "min-sum"}, 0.03),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_quiet_attacks_pass_multi_krum(update, harm, honest):
    assert run(update)[0] > honest[0] + harm
    taken = {}
    for name, kind in (("quiet", update), ("random", {"attack": "gaussian"})):
        _, rows = run(kind, KRUM)
        taken[name] = (rows[rows["client"] >= 7]["selected"] == "yes").mean()
    assert taken["quiet"] > 0.5
    assert taken["random"] == 0
