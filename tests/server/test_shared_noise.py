"""Noise that the clients of a secure sum share: how much is in the sum, and when there is none."""

import math

import pytest
import torch
from flwr.app import Error

from fedlab import BadInput, Federation, RunFailed
from fedlab.defenses.clip_noise import ClipNoise
from fedlab.privacy.accounts import CLIENT
from fedlab.server.captures import Capture
from fedlab.server.suppression import singled_out, with_noise_of_all
from tests.defenses.updates import flat
from tests.federations import Tampered, finished, small

NOISE, NORM = 0.8, 0.5
SHARED = {
    "name": "clip-noise",
    "clipping_norm": NORM,
    "noise_multiplier": NOISE,
    "noise_shared_by": 3,
}
SECURE = {"name": "secure-aggregation"}
LEAK = {"role": "leaking", "clients": "all", "batch_size": 2}
UNEVEN = {"train": 160, "test": 80, "clients": 4, "partition": "dirichlet", "alpha": 1.0}
SUPPRESSION = {"malicious": {"attack": "suppression", "clients": "1"}}


def federated(noise=NOISE, defenses=None, **tables):
    shared = SHARED | {"noise_multiplier": noise}
    given = {"rounds": 1, "captures": {"keep": "all"}, "defenses": defenses or [shared, SECURE]}
    return small("model.width=16", **given | tables)


def seen(federation, client=1):
    return Capture.load(federation.folder.captures, round=1, client=client)


def noise_in(scenario, quiet, look=seen):
    """The difference from a run without noise is the noise alone."""
    noisy, still = (look(finished(each)).payload.tensors for each in (scenario, quiet))
    return flat({name: noisy[name] - still[name] for name in noisy})


@pytest.mark.parametrize("roles", [[], [LEAK]], ids=["weights", "gradient"])
def test_the_mean_has_the_noise_of_all_four(roles):
    noise = noise_in(federated(roles=roles), federated(0.0, roles=roles))
    expected = NOISE * NORM / 3**0.5 * 4**0.5 / 4
    assert len(noise) > 600
    assert float(noise.std()) == pytest.approx(expected, rel=0.1)


def test_no_client_counts_more_than_its_noise_covers():
    both = federated(0.0, data=UNEVEN)
    alone = both.changed(defenses=[SHARED | {"noise_multiplier": 0.0, "noise_shared_by": 1}])
    total, each = finished(both), finished(alone)
    examples = [seen(each, client).payload.num_examples for client in range(4)]
    assert len(set(examples)) > 1
    assert seen(total).payload.num_examples == sum(examples)
    for name, mean in seen(total).payload.tensors.items():
        own = [seen(each, client).payload.tensors[name] for client in range(4)]
        torch.testing.assert_close(mean, torch.stack(own).mean(0), rtol=1e-5, atol=1e-6)


def without(*clients):
    """A change of replies after which these clients failed."""

    def tamper(client, reply):
        return Error(code=2, reason="no disk") if client in clients else reply

    return tamper


def test_one_of_four_may_fail_and_not_two(caplog):
    scenario = federated()
    survived = finished(scenario, grid=Tampered(scenario, without(0)))
    assert seen(survived).clients == (1, 2, 3)
    with pytest.raises(RunFailed):
        finished(scenario, grid=Tampered(scenario, without(0, 2)))
    assert "clients 1,3 are skipped: noise that 3 clients must share is shared by 2" in caplog.text


def test_a_client_without_noise_is_no_help():
    poisoners = {"role": "poisoning", "clients": "2-3", "update": {"attack": "scaling"}}
    with pytest.raises(RunFailed, match="is shared by 2 in its secure sum"):
        finished(federated(roles=[poisoners]))


def test_gradients_and_weights_have_noise_in_units_of_their_own():
    with pytest.raises(RunFailed, match="is shared by 2 in its secure sum"):
        finished(federated(roles=[LEAK | {"clients": "0-1"}]))


def test_other_settings_are_other_noise():
    defenses = [
        SHARED | {"clients": "0-1"},
        SHARED | {"clients": "2-3", "clipping_norm": 0.1},
        SECURE,
    ]
    with pytest.raises(RunFailed, match="is shared by 2 in its secure sum"):
        finished(federated(defenses=defenses))


def test_the_same_settings_may_be_scheduled_apart():
    defenses = [SHARED | {"clients": "0-1"}, SHARED | {"clients": "2-3"}, SECURE]
    assert seen(finished(federated(defenses=defenses))).clients == (0, 1, 2, 3)


def test_a_single_reply_may_not_have_shared_noise():
    with pytest.raises(BadInput, match="no secure aggregation, so the server sees its reply"):
        federated(defenses=[SHARED, SECURE | {"clients": "0-2"}])
    federation = Federation(federated())
    with pytest.raises(BadInput, match="no secure aggregation"):
        federation.toggle("secure-aggregation", on=False, rounds="all")


def test_the_ledger_charges_the_noise_of_the_sum():
    defenses = [SHARED | {"noise_shared_by": 1}]
    alone, shared = (finished(each) for each in (federated(defenses=defenses), federated()))
    assert shared.ledger.total(1, CLIENT) == alone.ledger.total(1, CLIENT)


def test_suppression_leaves_all_the_noise_on_its_target():
    """Suppressed clients send no gradient, but the noise that covers the target."""
    tables = {"server": SUPPRESSION, "roles": [LEAK]}

    def look(federation):
        return singled_out(seen(federation))

    noise = noise_in(federated(**tables), federated(0.0, **tables), look)
    expected = ClipNoise(**SHARED).noise_multiplier * NORM * (4 / 3) ** 0.5
    assert float(noise.std()) == pytest.approx(expected, rel=0.1)
    assert look(finished(federated(**tables))).facts.update_noise == pytest.approx(expected)


@pytest.mark.parametrize(
    "defenses",
    [[SHARED, SECURE], [{"name": "dp-sgd", "clients": "0-2"}, SECURE]],
    ids=["clip-noise", "dp-sgd"],
)
def test_the_replay_draws_the_noise_of_suppressed_clients_again(defenses):
    attack = {"clients": "1", "preset": "fast", "iterations": 2}
    rows = finished(
        federated(defenses=defenses, server=SUPPRESSION, roles=[LEAK], reconstructions=[attack])
    ).folder.table("leakage")
    assert set(rows["client"]) == {1}
    assert (rows["payload_cosine"] > 0.99999).all()
    assert (rows["signal_cosine"] > 0.9999).all()


def test_the_attacker_tunes_itself_to_the_noise_of_all():
    tables = {"server": SUPPRESSION, "roles": [LEAK]}
    capture = seen(finished(federated(**tables)))
    (noise,) = with_noise_of_all([ClipNoise(**SHARED)], capture.facts)
    assert noise.noise_multiplier * NORM == pytest.approx(capture.facts.update_noise)
    assert noise.facts(())["update_noise"] == pytest.approx(capture.facts.update_noise)


@pytest.mark.parametrize("roles", [[], [LEAK]], ids=["weights", "gradient"])
def test_suppression_knows_that_all_count_equally(roles):
    planned = federated(0.0, server=SUPPRESSION, roles=roles, data=UNEVEN)
    shared = SHARED | {"noise_multiplier": 0.0, "noise_shared_by": 1}
    true = seen(finished(planned.changed(server={}, defenses=[shared]))).payload.tensors
    start = seen(finished(planned)).global_state if not roles else dict.fromkeys(true, 0)
    for name, tensor in singled_out(seen(finished(planned))).payload.tensors.items():
        own = true[name] - start[name]
        assert float((tensor - true[name]).norm() / own.norm()) < 1e-4, name


def test_noise_of_more_clients_than_a_round_has_is_refused():
    with pytest.raises(BadInput, match="shared by 5 clients, but a round has 4"):
        Federation(federated(defenses=[SHARED | {"noise_shared_by": 5}, SECURE]))


@pytest.mark.parametrize("later", ["pruning", "quantisation", "dual-pruning"])
def test_nothing_may_change_noise_that_is_shared(later):
    with pytest.raises(BadInput, match="each update before it is summed"):
        federated(defenses=[SHARED, {"name": later}, SECURE])
    federated(defenses=[{"name": later}, SHARED, SECURE])


def test_a_poisoner_that_runs_the_defense_is_no_help_either():
    poisoners = {"role": "poisoning", "clients": "2-3", "obeys_defenses": True}
    scaling = {"update": {"attack": "scaling", "factor": 0.001}}
    with pytest.raises(RunFailed, match="is shared by 2 in its secure sum"):
        finished(federated(roles=[poisoners | scaling]))


def test_a_poisoner_has_no_bound_of_its_own():
    poisoner = {"role": "poisoning", "clients": "3", "obeys_defenses": True}
    scaling = {"update": {"attack": "scaling", "factor": 10.0}}
    ledger = finished(federated(roles=[poisoner | scaling])).ledger
    assert math.isinf(ledger.total(3, CLIENT))
    assert math.isfinite(ledger.total(0, CLIENT))


def test_the_ledger_states_the_condition():
    row = finished(federated()).ledger.rows(1)[0]
    assert row.statement == "formal"
    assert row.reason == "if 3 clients of the secure sum add noise that the server does not know"
