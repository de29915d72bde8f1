"""One participation against hand-written loops, and what its randomness does and does not share."""

import pytest
import torch
from torch.nn import functional

from attacks.poisoning.badnets import stamp
from fedlab.client.site import Site
from fedlab.client.work import work
from fedlab.planning import plan_for
from fedlab.privacy.spending import Spending, to_json
from fedlab.seeds import generator
from tests.federations import small

LEAK = {"role": "leaking", "clients": "0", "batch_size": 3}


def prepared(**tables):
    scenario = small(**tables)
    site = Site.of(scenario)
    state = {name: value.clone() for name, value in site.model.state_dict().items()}
    return scenario, site, state


def do(scenario, site, state, *, round=1, client=0, history=(), mu=0.0, **options):
    plan = plan_for(scenario, round=round, client=client, proximal_mu=mu)
    return work(plan, site, state, history, **options)


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("mu", [0.0, 0.1])
def test_honest_work_is_a_plain_loop_bit_for_bit(momentum, mu):
    training = {
        "epochs": 2,
        "batch_size": 16,
        "lr": 0.05,
        "lr_decay": 0.5,
        "momentum": momentum,
        "weight_decay": 0.01,
    }
    scenario, site, state = prepared(training=training)
    done = do(scenario, site, state, round=2, client=1, mu=mu)

    model, shard = site.model, site.shard(1)
    model.load_state_dict(state)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.025, momentum=momentum, weight_decay=0.01)
    order = generator(scenario.seed, "batches", 2, 1)
    steps = 0
    for _ in range(2):
        for members in torch.randperm(40, generator=order).split(16):
            images = site.data.normalise(site.data.pixels(shard.images[members]))
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), shard.labels[members])
            loss.backward()
            for name, parameter in model.named_parameters():
                if mu:  # FedProx adds mu/2 ||w - w_global||^2 to the loss
                    parameter.grad += mu * (parameter.detach() - state[name])
            optimizer.step()
            steps += 1
    expected = {name: p.detach() for name, p in model.named_parameters()}
    for name, value in expected.items():
        torch.testing.assert_close(done.payload.tensors[name], value, rtol=1e-6, atol=1e-7)
    if not mu:
        assert same(done.payload.tensors, expected)
    assert (done.payload.num_examples, done.payload.steps) == (40, steps)
    assert done.history == (Spending(2, "none"),)


def test_a_leaking_client_sends_the_gradient_of_its_batch():
    scenario, site, state = prepared(roles=[LEAK])
    done = do(scenario, site, state, keep_trace=True)
    assert (done.payload.kind, done.payload.num_examples, done.payload.steps) == ("gradient", 3, 1)
    (batch,) = done.trace
    shard = site.shard(0)
    assert torch.equal(batch.labels, shard.labels[batch.members])
    site.model.load_state_dict(state)
    site.model.zero_grad()
    images = site.data.normalise(site.data.pixels(shard.images[batch.members]))
    functional.cross_entropy(site.model(images), batch.labels).backward()
    expected = {name: p.grad for name, p in site.model.named_parameters()}
    assert same(done.payload.tensors, expected)


def test_the_same_round_again_gives_the_same_bits_and_another_client_others():
    scenario, site, state = prepared(defenses=[{"name": "dp-instahide", "k": 3}])
    one, again = (do(scenario, site, state) for _ in range(2))
    assert same(one.payload.tensors, again.payload.tensors)
    assert not same(one.payload.tensors, do(scenario, site, state, client=1).payload.tensors)
    assert not same(one.payload.tensors, do(scenario, site, state, round=2).payload.tensors)


def test_dp_noise_never_repeats_even_if_a_round_does():
    scenario, site, state = prepared(roles=[LEAK], defenses=[{"name": "dp-sgd"}])
    first = do(scenario, site, state)
    rehearsed = do(scenario, site, state)
    again = do(scenario, site, state, history=first.history)
    assert same(first.payload.tensors, rehearsed.payload.tensors)
    assert not same(first.payload.tensors, again.payload.tensors)
    assert len(again.history) == 2  # and it is accounted again
    quiet = do(scenario, site, state, noiseless=True)
    for name, tensor in quiet.payload.tensors.items():
        # One example-batch of three under clipping norm 1: the rest of the difference is noise.
        noise = first.payload.tensors[name] - tensor
        if tensor.numel() > 500:
            assert float(noise.std()) == pytest.approx(1.0 / 3, rel=0.15)


def test_poisoned_images_are_the_poisoners_own_and_the_same_in_every_round():
    patch = {"attack": "badnets", "target": 0, "share": 0.5, "size": 2}
    scenario, site, state = prepared(roles=[{"role": "poisoning", "clients": "2", "data": patch}])
    done = do(scenario, site, state, client=2)
    clean = site.shard(2)
    touched = (done.shard.images != clean.images).flatten(1).any(1)
    assert int(touched.sum()) == 20
    assert torch.equal(done.shard.images[touched], stamp(clean.images[touched], size=2))
    assert (done.shard.labels[touched] == 0).all()
    later = do(scenario, site, state, client=2, round=3)
    assert torch.equal(later.shard.images, done.shard.images)
    other = do(scenario, site, state, client=1)
    assert torch.equal(other.shard.images, site.shard(1).images)


@pytest.mark.parametrize(
    ("role", "runs"),
    [
        ({"data": {"attack": "label-flip"}}, True),
        ({"update": {"attack": "scaling", "factor": 2.0}}, False),
        ({"update": {"attack": "scaling", "factor": 2.0}, "obeys_defenses": True}, True),
        ({"obeys_defenses": False}, False),
    ],
)
def test_who_obeys_the_scheduled_defenses(role, runs):
    poisoning = {"role": "poisoning", "clients": "0"} | role
    scenario, site, state = prepared(roles=[poisoning], defenses=[{"name": "dp-sgd"}])
    (spent,) = do(scenario, site, state).history
    assert spent.mechanism == ("dp-sgd" if runs else "none")


def test_a_scaled_update():
    def role(factor):
        update = {"attack": "scaling", "factor": factor}
        return [{"role": "poisoning", "clients": "0", "data": None, "update": update}]

    scenario, site, state = prepared(roles=role(1.0))
    plain = do(scenario, site, state)
    scaled = do(small(roles=role(5.0)), site, state)
    for name, value in plain.payload.tensors.items():
        expected = state[name] + 5 * (value - state[name])
        torch.testing.assert_close(scaled.payload.tensors[name], expected)


def test_histories_that_disagree_are_refused_and_the_longer_one_wins():
    scenario, site, state = prepared()
    plan = plan_for(scenario, round=3, client=0, history=(Spending(1, "none"), Spending(2, "none")))
    done = work(plan, site, state, (Spending(1, "none"),))
    assert [entry.round for entry in done.history] == [1, 2, 3]
    conflict = plan.model_copy(update={"history": to_json([Spending(1, "dp-sgd")])})
    with pytest.raises(ValueError, match="disagree"):
        work(conflict, site, state, (Spending(1, "none"),))


def test_shared_buffers_make_a_protected_round_open():
    scenario, site, state = prepared(
        model={"name": "resnet8", "width": 4, "norm": "batch"},
        training={"share_buffers": True, "batch_size": 16},
        defenses=[{"name": "dp-instahide", "k": 2}],
    )
    done = do(scenario, site, state)
    assert [entry.mechanism for entry in done.history] == ["none"]
    assert set(done.buffers) == {name for name, _ in site.model.named_buffers()}
    running = next(name for name in done.buffers if name.endswith("running_mean"))
    assert not torch.equal(done.buffers[running], state[running])


def test_a_network_without_buffers_has_none_to_share():
    scenario, site, state = prepared(
        training={"share_buffers": True}, defenses=[{"name": "dp-sgd"}]
    )
    done = do(scenario, site, state)
    assert done.buffers == {}
    assert [entry.mechanism for entry in done.history] == ["dp-sgd"]


def test_other_settings_draw_other_noise():
    """Else two releases at different scales would cancel each other's noise."""

    def noise(multiplier):
        dp = {"name": "dp-sgd", "noise_multiplier": multiplier}
        scenario, site, state = prepared(roles=[LEAK], defenses=[dp])
        noisy, quiet = do(scenario, site, state), do(scenario, site, state, noiseless=True)
        one, other = noisy.payload.tensors, quiet.payload.tensors
        return torch.cat([(one[name] - other[name]).flatten() for name in one]) / multiplier

    one, other = noise(1.0), noise(2.0)
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.1


def test_a_global_state_must_be_whole():
    scenario, site, state = prepared()
    with pytest.raises(ValueError, match=r"lacks 0\.weight"):
        do(scenario, site, {name: v for name, v in state.items() if name != "0.weight"})
    with pytest.raises(ValueError, match="no parameter other"):
        do(scenario, site, state | {"other": torch.zeros(1)})
