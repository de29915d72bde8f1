"""Tests of the round of one client, against hand-written training loops."""

import pytest
import torch
from torch.nn import functional

from attacks.poisoning.label_flip import flip
from attacks.poisoning.triggers import stamp
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.core.seeds import generator
from fedlab.defenses.dp_instahide import DPInstaHide
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.privacy import instahide
from fedlab.privacy.accounts import IMAGE
from fedlab.privacy.history_text import to_json
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import PrivacyRelease
from fedlab.protocol.planning import task_for
from tests.federations import FORGETFUL, small

LEAK = {"role": "leaking", "clients": "0", "batch_size": 3}


def prepared(**tables):
    scenario = small(**tables)
    federated = FederatedData.of(scenario)
    state = {name: value.clone() for name, value in federated.model.state_dict().items()}
    return scenario, federated, state


def do(scenario, federated, state, *, round=1, client=0, history=(), mu=0.0, **options):
    task = task_for(scenario, round=round, client=client, proximal_mu=mu)
    return run_client_round(task, federated, state, history, **options)


def flat(done):
    return torch.cat([tensor.flatten() for tensor in done.payload.tensors.values()])


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("mu", [0.0, 0.1])
def test_honest_client_equals_plain_loop_bitwise(momentum, mu):
    training = {
        "epochs": 2,
        "batch_size": 16,
        "lr": 0.05,
        "lr_decay": 0.5,
        "momentum": momentum,
        "weight_decay": 0.01,
    }
    scenario, federated, state = prepared(training=training)
    done = do(scenario, federated, state, round=2, client=1, mu=mu)

    model, shard = federated.model, federated.shard(1)
    model.load_state_dict(state)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.025, momentum=momentum, weight_decay=0.01)
    order = generator(scenario.seed, "batches", 2, 1)
    steps = 0
    for _ in range(2):
        for members in torch.randperm(40, generator=order).split(16):
            images = federated.data.normalise(federated.data.pixels(shard.images[members]))
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
    assert done.history == (PrivacyRelease(2, 0, "none"),)


def test_leaking_client_sends_its_batch_gradient():
    scenario, federated, state = prepared(roles=[LEAK])
    done = do(scenario, federated, state, keep_batches=True)
    assert (done.payload.kind, done.payload.num_examples, done.payload.steps) == ("gradient", 3, 1)
    (batch,) = done.batches
    shard = federated.shard(0)
    assert torch.equal(batch.labels, shard.labels[batch.members])
    federated.model.load_state_dict(state)
    federated.model.zero_grad()
    images = federated.data.normalise(federated.data.pixels(shard.images[batch.members]))
    functional.cross_entropy(federated.model(images), batch.labels).backward()
    expected = {name: p.grad for name, p in federated.model.named_parameters()}
    assert same(done.payload.tensors, expected)


def test_rerun_repeats_bits_per_client():
    scenario, federated, state = prepared(defenses=[{"name": "dp-instahide", "k": 3}])
    one, again = (do(scenario, federated, state) for _ in range(2))
    assert same(one.payload.tensors, again.payload.tensors)
    assert not same(one.payload.tensors, do(scenario, federated, state, client=1).payload.tensors)
    assert not same(one.payload.tensors, do(scenario, federated, state, round=2).payload.tensors)


def test_dp_noise_never_repeats():
    scenario, federated, state = prepared(roles=[LEAK], defenses=[{"name": "dp-sgd"}])
    first = do(scenario, federated, state)
    rehearsed = do(scenario, federated, state)
    again = do(scenario, federated, state, history=first.history)
    assert same(first.payload.tensors, rehearsed.payload.tensors)
    assert not same(first.payload.tensors, again.payload.tensors)
    assert len(again.history) == 2  # and it is accounted again
    quiet = do(scenario, federated, state, noiseless=True)
    # Clipping norm 1 over a batch of three: all of the difference is noise of this deviation.
    noise = flat(first) - flat(quiet)
    assert len(noise) > 600
    assert float(noise.std()) == pytest.approx(1.0 / 3, rel=0.12)
    assert abs(float(noise.mean())) < 5 / 3 / len(noise) ** 0.5


def test_poison_is_the_same_in_every_round():
    patch = {"attack": "badnets", "target": 0, "share": 0.5, "size": 2}
    scenario, federated, state = prepared(
        roles=[{"role": "poisoning", "clients": "2", "data": patch}]
    )
    done = do(scenario, federated, state, client=2)
    clean = federated.shard(2)
    touched = (done.shard.images != clean.images).flatten(1).any(1)
    assert int(touched.sum()) == 20
    assert torch.equal(done.shard.images[touched], stamp(clean.images[touched], size=2))
    assert (done.shard.labels[touched] == 0).all()
    later = do(scenario, federated, state, client=2, round=3)
    assert torch.equal(later.shard.images, done.shard.images)
    other = do(scenario, federated, state, client=1)
    assert torch.equal(other.shard.images, federated.shard(1).images)


@pytest.mark.parametrize(
    ("role", "runs"),
    [
        ({"data": {"attack": "label-flip"}}, True),
        ({"update": {"attack": "scaling", "factor": 2.0}}, False),
        ({"update": {"attack": "scaling", "factor": 2.0}, "obeys_defenses": True}, True),
        ({"obeys_defenses": False}, False),
    ],
)
def test_which_roles_run_the_defenses(role, runs):
    poisoning = {"role": "poisoning", "clients": "0"} | role
    scenario, federated, state = prepared(roles=[poisoning], defenses=[{"name": "dp-sgd"}])
    (spent,) = do(scenario, federated, state).history
    assert spent.mechanism == ("dp-sgd" if runs else "none")


def test_scaled_update_is_multiplied():
    def role(factor):
        update = {"attack": "scaling", "factor": factor}
        return [{"role": "poisoning", "clients": "0", "data": None, "update": update}]

    scenario, federated, state = prepared(roles=role(1.0))
    plain = do(scenario, federated, state)
    scaled = do(small(roles=role(5.0)), federated, state)
    for name, value in plain.payload.tensors.items():
        expected = state[name] + 5 * (value - state[name])
        torch.testing.assert_close(scaled.payload.tensors[name], expected)


def test_longer_history_wins_and_conflicts_fail():
    scenario, federated, state = prepared()
    task = task_for(
        scenario,
        round=3,
        client=0,
        history=(PrivacyRelease(1, 0, "none"), PrivacyRelease(2, 1, "none")),
    )
    done = run_client_round(task, federated, state, (PrivacyRelease(1, 0, "none"),))
    assert [entry.round for entry in done.history] == [1, 2, 3]
    conflict = task.model_copy(update={"history": to_json([PrivacyRelease(1, 0, "dp-sgd")])})
    with pytest.raises(ValueError, match="disagree"):
        run_client_round(conflict, federated, state, (PrivacyRelease(1, 0, "none"),))


def test_shared_buffers_open_a_protected_round():
    scenario, federated, state = prepared(
        model={"name": "resnet8", "width": 4, "norm": "batch"},
        training={"share_buffers": True, "batch_size": 16},
        defenses=[{"name": "dp-instahide", "k": 2}],
    )
    done = do(scenario, federated, state)
    assert [entry.mechanism for entry in done.history] == ["none"]
    assert set(done.buffers) == {name for name, _ in federated.model.named_buffers()}
    running = next(name for name in done.buffers if name.endswith("running_mean"))
    assert not torch.equal(done.buffers[running], state[running])


def test_network_without_buffers_shares_none():
    scenario, federated, state = prepared(
        training={"share_buffers": True}, defenses=[{"name": "dp-sgd"}]
    )
    done = do(scenario, federated, state)
    assert done.buffers == {}
    assert [entry.mechanism for entry in done.history] == ["dp-sgd"]


def test_other_settings_draw_other_noise():
    """Else two releases at different scales would cancel each other's noise."""

    def noise(multiplier):
        dp = {"name": "dp-sgd", "noise_multiplier": multiplier}
        scenario, federated, state = prepared(roles=[LEAK], defenses=[dp])
        noisy, quiet = (
            do(scenario, federated, state),
            do(scenario, federated, state, noiseless=True),
        )
        one, other = noisy.payload.tensors, quiet.payload.tensors
        return torch.cat([(one[name] - other[name]).flatten() for name in one]) / multiplier

    one, other = noise(1.0), noise(2.0)
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.1


def test_incomplete_global_state_is_refused():
    scenario, federated, state = prepared()
    with pytest.raises(ValueError, match=r"lacks 0\.weight"):
        do(scenario, federated, {name: v for name, v in state.items() if name != "0.weight"})
    with pytest.raises(ValueError, match="no parameter other"):
        do(scenario, federated, state | {"other": torch.zeros(1)})


def test_dp_noise_differs_by_client_and_step():
    """Noise that two releases share could be subtracted."""
    scenario, federated, state = prepared(
        roles=[{"role": "leaking", "batch_size": 3}], defenses=[{"name": "dp-sgd"}]
    )
    noises = [
        flat(do(scenario, federated, state, client=client))
        - flat(do(scenario, federated, state, client=client, noiseless=True))
        for client in (0, 1)
    ]
    assert abs(float(torch.corrcoef(torch.stack(noises))[0, 1])) < 0.2

    # With no clipping norm to speak of, what moves the weights is the noise of each step.
    loud = [{"name": "dp-sgd", "noise_multiplier": 1e6, "clipping_norm": 1e-3}]
    scenario = small(defenses=loud, training={"batch_size": 20, "lr": 1e-3, "epochs": 2})
    done = do(scenario, federated, state)
    moved = torch.cat([(done.payload.tensors[n] - state[n]).flatten() for n in state])
    # Four independent steps of noise add up to twice one of them, not to four times.
    assert done.payload.steps == 4
    assert float(moved.std()) == pytest.approx(2 * 1e-3 * 1e3 / 20, rel=0.12)


def test_dp_sgd_equals_clipped_micro_batches():
    """The batches are those of the Poisson stream, divided by their expected size."""
    scenario, federated, state = prepared(
        training={"epochs": 2, "batch_size": 10, "lr": 0.05, "momentum": 0.5},
        defenses=[{"name": "dp-sgd", "clipping_norm": 0.3}],
    )
    done = do(scenario, federated, state, round=2, client=1, noiseless=True)

    model, shard = federated.model, federated.shard(1)
    model.load_state_dict(state)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    stream = generator(scenario.seed, "batches 0", 2, 1)
    sizes = []
    for _ in range(2 * 4):
        members = (torch.rand(40, generator=stream) < 0.25).nonzero().squeeze(1)
        sizes.append(len(members))
        total = [torch.zeros_like(p) for p in model.parameters()]
        for member in members:
            image = federated.data.normalise(
                federated.data.pixels(shard.images[member].unsqueeze(0))
            )
            loss = functional.cross_entropy(model(image), shard.labels[member].unsqueeze(0))
            one = torch.autograd.grad(loss, list(model.parameters()))
            norm = torch.cat([g.flatten() for g in one]).norm()
            total = [
                t + g * min(1.0, 0.3 / float(norm + 1e-6)) for t, g in zip(total, one, strict=True)
            ]
        for parameter, gradient in zip(model.parameters(), total, strict=True):
            parameter.grad = gradient / 10
        optimizer.step()
    assert len(set(sizes)) > 1
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            done.payload.tensors[name], parameter.detach(), rtol=1e-4, atol=1e-6
        )
    (spent,) = done.history
    assert (spent.sample_rate, spent.steps, spent.clipping_norm) == (0.25, 8, 0.3)
    assert spent.noise_multiplier == 1.0  # what the client spent, not what the rehearsal left out


@pytest.mark.parametrize("roles", [[], [LEAK | {"batch_size": 20, "sampling": "poisson"}]])
def test_rerun_round_draws_other_batches(roles):
    """Two draws are accounted for; noise on the same batches twice would cost more than they do."""
    scenario, federated, state = prepared(roles=roles, defenses=[{"name": "dp-sgd"}])

    def members(history):
        done = do(scenario, federated, state, history=history, keep_batches=True)
        return done, [batch.members.tolist() for batch in done.batches]

    first, drawn = members(())
    again, others = members(first.history)
    assert all(one != other for one, other in zip(drawn, others, strict=True))
    assert drawn == members(())[1]  # as the Referee finds them
    assert others == members(first.history)[1]
    assert len(again.history) == 2


def test_empty_leaking_batch_releases_noise():
    leak = LEAK | {"batch_size": 1, "sampling": "poisson"}
    scenario, federated, state = prepared(
        rounds=20, roles=[leak], defenses=[{"name": "dp-sgd", "clipping_norm": 0.5}]
    )
    sizes = {}
    for number in range(1, 21):
        quiet = do(scenario, federated, state, round=number, keep_batches=True, noiseless=True)
        (batch,) = quiet.batches
        sizes[number] = len(batch.members)
        assert bool(flat(quiet).any()) == bool(len(batch.members))
        assert quiet.history[0].sample_rate == pytest.approx(1 / 40)
    empty = next(number for number, size in sizes.items() if not size)
    noisy = do(scenario, federated, state, round=empty)
    assert float(flat(noisy).std()) == pytest.approx(0.5, rel=0.12)
    assert noisy.payload.num_examples == 1  # the expected size, whatever was drawn


def test_fixed_leaking_batch_is_accounted_at_q_1():
    scenario, federated, state = prepared(roles=[LEAK], defenses=[{"name": "dp-sgd"}])
    done = do(scenario, federated, state, keep_batches=True)
    assert len(done.batches[0].members) == 3
    assert (done.history[0].sample_rate, done.history[0].steps) == (1.0, 1)


def test_only_label_flippers_train_on_wrong_labels():
    scenario, federated, state = prepared(roles=[{"role": "poisoning", "clients": "2"}])
    plain = small()
    before = federated.data.train_images.clone(), federated.data.train_labels.clone()
    done = do(scenario, federated, state, client=2, keep_batches=True)
    clean = federated.shard(2)
    assert torch.equal(done.shard.images, clean.images)
    assert torch.equal(done.shard.labels, flip(clean.labels, num_classes=10))
    for batch in done.batches:
        assert torch.equal(batch.labels, 9 - clean.labels[batch.members])
    assert not same(done.payload.tensors, do(plain, federated, state, client=2).payload.tensors)
    for client in (0, 1, 3):
        honest = do(plain, federated, state, client=client).payload.tensors
        assert same(do(scenario, federated, state, client=client).payload.tensors, honest)
    assert torch.equal(federated.data.train_images, before[0])
    assert torch.equal(federated.data.train_labels, before[1])


def test_batches_are_kept_only_on_request():
    scenario, federated, state = prepared(defenses=[{"name": "dp-instahide", "k": 3, "scale": 0.0}])
    done = do(scenario, federated, state, keep_batches=True)
    assert do(scenario, federated, state).batches == ()
    shard = federated.shard(0)
    assert [len(batch.members) for batch in done.batches] == [16, 16, 8]
    for batch in done.batches:
        assert batch.sources.shape == (len(batch.members), 3)
        mean = (shard.images.float() / 255)[batch.sources].mean(1)
        torch.testing.assert_close(batch.pixels, mean)


def test_inputs_and_outputs_stay_unchanged():
    scenario, federated, state = prepared()
    before = {name: value.clone() for name, value in state.items()}
    first = do(scenario, federated, state)
    kept = {name: value.clone() for name, value in first.payload.tensors.items()}
    do(scenario, federated, state, client=1)
    assert same(state, before)
    assert same(dict(first.payload.tensors), kept)  # no view of the network that others train


def test_client_always_sets_training_mode():
    scenario, federated, state = prepared(model={"name": "resnet8", "width": 4, "norm": "batch"})
    expected = do(scenario, federated, state)
    federated.model.eval()
    assert same(do(scenario, federated, state).payload.tensors, expected.payload.tensors)


def hooks(federated):
    return [module for module in federated.model.modules() if module._forward_hooks]


def test_failed_round_leaves_no_hooks():
    scenario, federated, state = prepared(defenses=[{"name": "dp-sgd"}])
    task = task_for(scenario, round=1, client=0)
    with pytest.raises(ValueError, match="learning rate"):
        run_client_round(task.model_copy(update={"lr": -1.0}), federated, state, ())
    assert not hooks(federated)


def test_failed_defense_leaves_no_hooks():
    """Or no later client of this process could run DP-SGD."""
    scenario, federated, state = prepared()
    both = {"defenses": (DPSGD(), DPInstaHide(k=99))}
    task = task_for(scenario, round=1, client=0).model_copy(update=both)
    with pytest.raises(ValueError, match="mixes k = 99 images"):
        run_client_round(task, federated, state, ())
    assert not hooks(federated)


def test_frozen_mixtures_are_reused_and_cost_once():
    """Also by a leaking client, whose single batch puts the whole set at stake."""
    mixing = {"name": "dp-instahide", "k": 3, "frozen": 25, "scale": 50.0}
    leak = LEAK | {"rounds": "2"}
    scenario, federated, state = prepared(defenses=[mixing], roles=[leak])
    first = do(scenario, federated, state, keep_batches=True)
    second = do(scenario, federated, state, round=2, history=first.history, keep_batches=True)
    third = do(scenario, federated, state, round=3, history=second.history, keep_batches=True)
    sets = [
        {int(m): x for b in done.batches for m, x in zip(b.members, b.pixels, strict=True)}
        for done in (first, second, third)
    ]
    assert [len(each) for each in sets] == [25, 3, 25]
    for later in sets[1:]:
        assert all(torch.equal(sets[0][place], pixels) for place, pixels in later.items())
    assert [done.sent.num_examples for done in (first, second, third)] == [25, 3, 25]
    ledger = Ledger({0: third.history}, labels_public=True)
    epsilon = instahide.epsilon(k=3, sigma=50.0, diameter=64.0, records=25)
    assert ledger.protected(0, IMAGE) == ledger.total(0, IMAGE) == pytest.approx(epsilon)
    assert [row.epsilon_round for row in ledger.rows()] == [pytest.approx(epsilon), 0.0, 0.0]
    other = do(scenario, federated, state, client=1)
    assert other.history[0].release != first.history[0].release


def test_poisoned_client_freezes_another_set():
    """Under the same name its epsilon would be counted once, and the noise could be taken off."""
    mixing = {"name": "dp-instahide", "k": 3, "frozen": 25}
    flips = {"role": "poisoning", "clients": "0", "rounds": "2"}
    scenario, federated, state = prepared(defenses=[mixing], roles=[flips])
    first, second = (do(scenario, federated, state, round=number).history[0] for number in (1, 2))
    assert first.release != second.release


@pytest.mark.parametrize("role", ["honest", "leaking"])
def test_dropout_is_the_same_in_every_process(role):
    scenario = small(model=FORGETFUL, roles=[{"role": role, "clients": "0"}])
    federated = FederatedData.of(scenario)
    state, task = federated.state, task_for(scenario, round=1, client=0)
    payloads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        payloads.append(run_client_round(task, federated, state, ()).sent.tensors)
        assert torch.equal(torch.random.get_rng_state(), before)
    one, other = payloads
    assert all(torch.equal(value, other[name]) for name, value in one.items())
