"""Gradient suppression: what the server sends, sees, rebuilds and keeps of a secure sum."""

import pytest
import torch
from flwr.app import Error

from fedlab import BadInput, Federation, Scenario
from fedlab.report.tables.schedule import schedule_grid
from fedlab.server.captures import Capture
from fedlab.server.suppression import singled_out
from tests.federations import Tampered, finished, small

SECURE = {"name": "secure-aggregation"}
SERVER = {"malicious": {"attack": "suppression", "clients": "1"}}
LEAK = {"role": "leaking", "clients": "all", "batch_size": 2}
ATTACK = {"clients": "1", "preset": "fast", "iterations": 150}
UNEVEN = {"train": 160, "test": 80, "clients": 4, "partition": "dirichlet", "alpha": 1.0}


def scenario(**tables):
    given = {"server": SERVER, "defenses": [SECURE], "captures": {"keep": "all"}, "rounds": 1}
    return small("model.width=16", **given | tables)


def seen_of(federation, client=1, round=1):
    return singled_out(Capture.load(federation.folder.captures, round=round, client=client))


def alone(planned):
    """The same client with an honest server that sees every reply."""
    return finished(planned.changed(server={}, defenses=[], reconstructions=[]))


@pytest.mark.parametrize(
    ("roles", "kind", "data"),
    [
        ([LEAK], "gradient", {}),
        ([], "weights", UNEVEN),
        ([LEAK | {"clients": "1"}], "gradient", UNEVEN),
    ],
)
def test_the_sum_is_the_targets_update(roles, kind, data):
    planned = scenario(roles=roles, **({"data": data} if data else {}))
    federation = finished(planned)
    seen, true = seen_of(federation), seen_of(alone(planned))
    assert (seen.clients, seen.payload.kind) == ((1,), kind)
    assert seen.payload.num_examples == true.payload.num_examples
    assert seen.payload.steps == true.payload.steps
    assert set(true.payload.tensors) - set(seen.payload.tensors) == {"7.bias"}
    start = true.global_state if kind == "weights" else dict.fromkeys(true.payload.tensors, 0)
    for name, tensor in seen.payload.tensors.items():
        own = true.payload.tensors[name] - start[name]
        assert float((tensor - start[name] - own).norm() / own.norm()) < 1e-4, name


@pytest.fixture(scope="module")
def attacked():
    return finished(scenario(roles=[LEAK], reconstructions=[ATTACK], rounds=2))


def test_its_images_leak_and_no_others_have_rows(attacked):
    rows = attacked.folder.table("leakage")
    assert set(rows["client"]) == {1}
    assert len(rows) == 4
    assert set(rows["verdict"]) == {"leaks"}
    assert set(rows["threat"]) == {"malicious"}
    assert set(rows["letter"]) == {"H"}
    assert set(rows["defenses"]) == {"secure-aggregation"}
    assert not rows["known_labels"].any()
    assert (rows["payload_cosine"] > 0.99999).all()


def test_a_kept_sum_is_attacked_again(attacked):
    again = attacked.reconstruct(round=2, client=3, preset="fast", iterations=150, power=False)
    live = attacked.folder.table("leakage")[lambda table: table["round"] == 2]
    assert [row.psnr for row in again.rows] == pytest.approx(live["psnr"].astype(float).tolist())
    assert attacked.consistency(round=1, client=1).cosine > 0.99999
    assert attacked.membership(round=1, client=1, non_members=20).auc > 0.5


def test_a_resumed_run_gives_the_same_weights(attacked, tmp_path):
    first = Federation(attacked.scenario, out=tmp_path / "run")
    first.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert all(torch.equal(attacked.state[name], value) for name, value in resumed.state.items())
    psnr = attacked.folder.table("leakage")["psnr"]
    assert resumed.folder.table("leakage")["psnr"].equals(psnr)


@pytest.mark.parametrize("roles", [[LEAK], []])
def test_the_model_moves_by_the_targets_share(roles):
    planned = scenario(roles=roles, training={"batch_size": 16, "weight_decay": 1e-3, "lr": 0.05})
    before = Federation(planned).state
    federation, own = finished(planned), seen_of(alone(planned)).payload
    own = own.as_weights(before, lr=0.05)
    for name, value in federation.state.items():
        moved = 0 if name == "7.bias" else (own[name] - before[name]) / 4
        torch.testing.assert_close(value, before[name] + moved, rtol=1e-4, atol=1e-6)


def test_clients_outside_the_sum_are_left_alone():
    planned = scenario(defenses=[SECURE | {"clients": "0-2"}])
    federation, honest = finished(planned), alone(planned)
    seen, true = (seen_of(each, client=3) for each in (federation, honest))
    assert seen.facts.malicious is None
    for name, tensor in true.payload.tensors.items():
        assert torch.equal(seen.payload.tensors[name], tensor)


@pytest.mark.parametrize(
    "changes",
    [
        {"defenses": [SECURE | {"clients": "2-3"}]},
        {"server": {"malicious": SERVER["malicious"] | {"rounds": "2"}}, "rounds": 2},
    ],
)
def test_nobody_is_suppressed_without_the_target(changes):
    federation = finished(scenario(**changes))
    capture = Capture.load(federation.folder.captures, round=1, client=3)
    assert capture.facts.malicious is None
    assert singled_out(capture) is capture
    assert len(capture.clients) > 1


def test_a_target_that_failed_has_no_image_in_the_sum(caplog):
    planned = scenario(roles=[LEAK], reconstructions=[ATTACK | {"clients": "all"}])

    def tamper(client, reply):
        return Error(code=2, reason="RuntimeError: no disk") if client == 1 else reply

    federation = Federation(planned, grid=Tampered(planned, tamper))
    before = federation.state
    federation.run()
    assert "client 1 sent nothing in round 1" in caplog.text
    rows = federation.folder.table("leakage")
    assert set(rows["target"]) == {"none"}
    assert all(torch.equal(before[name], value) for name, value in federation.state.items())


def test_noise_of_suppressed_clients_stays_in_the_sum():
    private = {"name": "dp-sgd", "noise_multiplier": 1.5}
    noisy = {"name": "clip-noise", "clipping_norm": 0.5, "noise_multiplier": 2.0}
    facts = seen_of(finished(scenario(roles=[LEAK], defenses=[private, SECURE]))).facts
    assert facts.noise_multiplier == pytest.approx(3.0)
    assert facts.batch_size == 2
    planned = scenario(roles=[LEAK], defenses=[noisy, SECURE])
    seen = seen_of(finished(planned))
    quiet = seen_of(
        finished(planned.changed(defenses=[noisy | {"noise_multiplier": 0.0}, SECURE]))
    ).payload.tensors
    noise = torch.cat([(seen.payload.tensors[n] - t).flatten() for n, t in quiet.items()])
    assert float(noise.std()) == pytest.approx(seen.facts.update_noise, rel=0.1)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"defenses": []}, "add the defense secure-aggregation"),
        ({"training": {"share_buffers": True}}, "share_buffers = false"),
        ({"audit": {"client": 1}}, "leave the table"),
        ({"data": UNEVEN, "training": {"weight_decay": 1e-3}}, "unlike numbers of steps"),
        (
            {"roles": [LEAK | {"clients": "0"}], "training": {"weight_decay": 1e-3}},
            "unlike numbers of steps",
        ),
        ({"model": {"name": "lenet"}}, "server.malicious: the network cannot be suppressed"),
    ],
)
def test_what_cannot_be_suppressed_is_refused(tables, words):
    with pytest.raises(BadInput, match=words):
        Federation(scenario(**tables))


@pytest.mark.parametrize("clients", ["all", "0-1"])
def test_two_targets_are_refused(clients):
    with pytest.raises(BadInput, match="leaves one client in a sum"):
        small(f'server.malicious={{attack="suppression", clients="{clients}"}}')


def test_it_survives_toml_and_is_in_the_grid():
    planned = scenario(roles=[LEAK])
    assert Scenario.parse(planned.to_toml()) == planned
    assert "malicious server" in schedule_grid(planned).note
