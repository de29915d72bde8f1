"""Tests of a poisoning client, from its task to its payload."""

import pytest
import torch

from attacks.model_poisoning.little_is_enough import little_is_enough
from attacks.payload import Payload
from fedlab import BadInput, Federation
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.protocol.planning import task_for
from fedlab.protocol.training_task import adjust_task
from tests.federations import finished, small

POISON = {"role": "poisoning", "clients": "0"}


def prepared(role, **tables):
    scenario = small(roles=[role], **tables)
    federated = FederatedData.of(scenario)
    return scenario, federated, federated.state


def sent(scenario, federated, state, client=0, round=1) -> Payload:
    return run_client_round(
        task_for(scenario, round=round, client=client), federated, state, ()
    ).sent


def change(payload, state):
    return torch.cat([(payload.tensors[n] - state[n]).flatten() for n in sorted(payload.tensors)])


def honest(client, federated, state, round=1):
    return change(sent(small(), federated, state, client, round), state)


def test_scaling_and_sign_flip_multiply_the_change():
    for update, factor in (
        ({"attack": "scaling", "factor": 3.0}, 3.0),
        ({"attack": "sign-flip", "factor": 2.0}, -2.0),
    ):
        scenario, federated, state = prepared(POISON | {"update": update})
        found = change(sent(scenario, federated, state), state)
        torch.testing.assert_close(
            found, factor * honest(0, federated, state), atol=1e-5, rtol=1e-4
        )


def test_gaussian_has_honest_norm_and_varies_by_round():
    scenario, federated, state = prepared(
        POISON | {"update": {"attack": "gaussian", "factor": 2.0}}
    )
    one, other = (change(sent(scenario, federated, state, round=r), state) for r in (1, 2))
    truth = honest(0, federated, state)
    assert float(one.norm() / truth.norm()) == pytest.approx(2, rel=1e-3)
    assert abs(float(torch.cosine_similarity(one, truth, 0))) < 0.2
    assert abs(float(torch.cosine_similarity(one, other, 0))) < 0.2
    again = change(sent(scenario, federated, state), state)
    assert torch.equal(one, again)


@pytest.mark.parametrize(("knows", "known"), [("colluders", (0, 1)), ("everyone", (2, 3))])
def test_colluders_know_what_is_granted(knows, known):
    update = {"attack": "little-is-enough", "z": 1.5, "knows": knows}
    scenario, federated, state = prepared(POISON | {"clients": "0-1", "update": update})
    task = task_for(scenario, round=1, client=0)
    assert task.collusion.known == known
    assert (task.collusion.clients, task.collusion.malicious) == (4, 2)
    each = [change(sent(scenario, federated, state, client), state) for client in (0, 1)]
    assert torch.equal(*each)
    known_changes = torch.stack([honest(client, federated, state) for client in known])
    expected = little_is_enough(known_changes, z=1.5)
    torch.testing.assert_close(each[0], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("attack", ["inner-product", "min-max", "min-sum"])
def test_other_colluding_updates_are_sent(attack):
    federation = finished(
        small(
            "rounds=1",
            roles=[POISON | {"clients": "0-1", "update": {"attack": attack}}],
            captures={"keep": "all"},
        )
    )
    plain = finished(small("rounds=1"))
    assert any(not torch.equal(plain.state[n], t) for n, t in federation.state.items())
    rows = federation.folder.table("clients")
    poisoned, others = rows[rows["client"] < 2], rows[rows["client"] >= 2]
    assert poisoned["update_norm"].nunique() == 1
    assert others["update_norm"].nunique() == 2


def test_constrain_and_scale_is_sgd_on_its_loss():
    """Its two terms by hand, with autograd, from the same batches."""
    alpha, factor = 0.6, 4.0
    update = {"attack": "constrain-and-scale", "alpha": alpha, "factor": factor, "lr": 0.02}
    scenario, federated, state = prepared(POISON | {"data": None, "update": update})
    found = change(sent(scenario, federated, state), state)
    federated.load(state)
    federated.model.train()
    shard, drawn = federated.shard(0), federated.stream(1, 0)("batches")
    before = {n: p.detach().clone() for n, p in federated.model.named_parameters()}
    optimizer = torch.optim.SGD(federated.model.parameters(), lr=0.02)
    for places in torch.randperm(len(shard), generator=drawn).split(16):
        logits = federated.model(federated.network_input(shard.images[places]))
        loss = alpha * torch.nn.functional.cross_entropy(logits, shard.labels[places])
        for name, parameter in federated.model.named_parameters():
            loss = loss + (1 - alpha) * (parameter - before[name]).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    named = dict(federated.model.named_parameters())
    expected = torch.cat([(named[n] - before[n]).flatten() for n in sorted(named)]).detach()
    torch.testing.assert_close(found, factor * expected, atol=1e-5, rtol=1e-3)


def test_other_attacks_leave_the_task_unchanged():
    for update in (None, {"attack": "scaling"}):
        task = task_for(small(roles=[POISON | {"update": update}]), round=1, client=0)
        assert adjust_task(task) is task


def test_claim_is_the_weight_unless_limited():
    lying = [POISON | {"claims": 10_000}]
    scenario, federated, state = prepared(lying[0])
    assert sent(scenario, federated, state).num_examples == 10_000
    weighed = finished(small("rounds=1", roles=lying))
    assert int(weighed.folder.table("clients")["examples"].max()) == 10_000
    alone = honest(0, federated, state)
    moved = torch.cat([(weighed.state[n] - state[n]).flatten() for n in sorted(state)])
    assert float(torch.cosine_similarity(alone, moved, 0)) > 0.999
    checked = finished(small("rounds=1", roles=lying, server={"max_examples": 100}))
    rows = checked.folder.table("clients")
    assert rows.set_index("client")["status"][0] == "refused"


def test_colluder_with_own_data_is_refused():
    role = POISON | {"data": {"attack": "label-flip"}, "update": {"attack": "min-max"}}
    with pytest.raises(BadInput, match="give one of data and update"):
        small(roles=[role])


def test_colluder_with_defenses_is_refused():
    role = POISON | {"update": {"attack": "inner-product"}}
    with pytest.raises(BadInput, match="no defense that the client runs would protect"):
        small(roles=[role | {"obeys_defenses": True}])
    assert not small(roles=[role]).role(round=1, client=0).runs_defenses


@pytest.mark.parametrize(
    ("clients", "update", "problem"),
    [
        ("0", {"attack": "min-max"}, "client 0 in round 1: min-max .* knows only one"),
        ("3", {"attack": "min-sum"}, "client 3 in round 1: min-sum .* knows only one"),
        ("1-3", {"attack": "min-max", "knows": "everyone"}, "only one: leave more clients honest"),
        ("1-3", {"attack": "little-is-enough"}, "3 of 4 clients collude: give z"),
    ],
)
def test_colluders_that_know_too_little_are_refused(clients, update, problem):
    role = POISON | {"clients": clients, "update": update}
    with pytest.raises(BadInput, match=problem):
        Federation(small(roles=[role]))
    Federation(small(roles=[role], server={"cohort": 3}))


def test_honest_updates_are_cached_for_one_round():
    update = {"attack": "inner-product", "knows": "everyone"}
    scenario, federated, state = prepared(POISON | {"update": update})
    made = []
    for _ in range(3):
        sent(scenario, federated, state)
        made.append(dict(federated.cache._recent))
        state = {name: value + 0.01 for name, value in state.items()}
    assert all(sorted(each) == ["honest 1", "honest 2", "honest 3"] for each in made)
    lone = prepared(POISON | {"clients": "1-3", "update": update})[0]
    sent(lone, federated, state, client=1)
    assert list(federated.cache._recent) == ["honest 0"]


def test_advice_to_a_refused_colluder_works():
    for clients, update in (
        ("0", {"attack": "min-max", "knows": "everyone"}),
        ("1-3", {"attack": "little-is-enough", "z": 1.0}),
    ):
        federation = finished(
            small("rounds=1", roles=[POISON | {"clients": clients, "update": update}])
        )
        assert set(federation.folder.table("clients")["status"]) == {"ok"}


def test_label_flip_is_the_default_poison():
    assert small(roles=[POISON]).role(round=1, client=0).data.attack == "label-flip"
    for told in ({"claims": 5}, {"update": {"attack": "sign-flip"}}):
        assert small(roles=[POISON | told]).role(round=1, client=0).data is None
