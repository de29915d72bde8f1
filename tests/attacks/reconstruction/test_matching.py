"""The matching cost over several rounds, and of local steps taken for one gradient."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.gradients import batch_gradient, unroll
from attacks.knowledge import Knowledge, LocalSGD
from attacks.payload import Payload
from attacks.reconstruction import AttackSettings, EarlierUpdate, consistency, invert
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.matching import START, Matching
from attacks.reconstruction.memory import step_bytes
from attacks.reconstruction.objectives import cosine
from attacks.reconstruction.problem import Problem
from fedlab.data import load
from fedlab.metrics.images import match, psnr
from fedlab.models import build

SHAPE = (1, 6, 6)
LOCAL = LocalSGD(0.05, epochs=2, batch_size=2)
PLAIN = AttackSettings()
POINT = AttackSettings(local_steps="surrogate")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5)).double()


def parts(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def batch(seed=1, count=4):
    images = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed)).double()
    return images, torch.arange(count) % 5


def known(local=None, count=4, **more):
    return Knowledge(SHAPE, 5, (0.5,), (0.25,), count, None, local, **more)


def gradient(model, images, labels):
    return Payload("gradient", batch_gradient(model, parts(model), {}, images, labels), 4, 1)


def weights(model, images, labels, local=LOCAL):
    after = unroll(model, parts(model), {}, images, labels, local=local)
    payload = {name: tensor.detach() for name, tensor in after.items()}
    return Payload("weights", payload, len(images), len(local.blocks(len(images))))


def of_weights(local=LOCAL):
    model = network()
    return Problem.of(model, parts(model), weights(model, *batch(), local), known(local))


@pytest.fixture
def two_rounds():
    """A problem of the gradients of one batch in two rounds, of networks that differ."""
    first, second = network(0), network(1)
    earlier = EarlierUpdate(parts(first), gradient(first, *batch()), known())
    return Problem.of(second, parts(second), gradient(second, *batch()), known(), [earlier])


def test_one_round_is_the_objective_of_its_update():
    problem, (images, labels) = of_weights(), batch(2)
    images.requires_grad_()
    plain = cosine(problem.target)(problem.simulate(images, labels))
    joint = Matching(problem, PLAIN)(images, labels)
    assert torch.equal(plain, joint)
    assert torch.equal(*(torch.autograd.grad(cost, images)[0] for cost in (plain, joint)))


def test_rounds_are_averaged_as_by_hand(two_rounds):
    images, labels = batch(2)
    images.requires_grad_()
    cost = Matching(two_rounds, PLAIN)(images, labels)
    expected = 0
    for seed in (0, 1):
        model = network(seed)
        true = torch.cat([t.flatten() for t in gradient(model, *batch()).tensors.values()])
        loss = functional.cross_entropy(model(images), labels)
        found = torch.autograd.grad(loss, [*model.parameters()], create_graph=True)
        cosines = torch.cosine_similarity(torch.cat([f.flatten() for f in found]), true, 0)
        expected += (1 - cosines) / 2
    torch.testing.assert_close(cost, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, images)[0] for each in (cost, expected)))


def test_the_true_images_match_all_rounds(two_rounds):
    assert Matching(two_rounds, PLAIN)(*batch(), create_graph=False) < 1e-12


def test_updates_of_other_numbers_of_images_are_refused():
    model = network()
    earlier = EarlierUpdate(parts(model), gradient(model, *batch()), known(count=3))
    with pytest.raises(ValueError, match="averages 3 images and the latest 4"):
        Problem.of(model, parts(model), gradient(model, *batch()), known(), [earlier])


def test_noise_averages_out_over_rounds():
    model = network()
    noisy = known(clipping_norm=1.0, noise_multiplier=0.5, defenses=("dp-sgd",))
    alone, four = (
        adapted(PLAIN, gradient(model, *batch()), noisy, rounds=rounds) for rounds in (1, 4)
    )
    assert alone.objective == four.objective == "l2"
    assert four.tv == pytest.approx(alone.tv / 4)


def test_point_0_takes_the_update_for_a_gradient():
    problem, (images, labels) = of_weights(), batch(2)
    found = problem.simulate(images, labels, point=0.0)
    plain = batch_gradient(problem.model, problem.parameters, {}, images, labels)
    for name, tensor in plain.items():  # four steps of learning rate 0.05
        torch.testing.assert_close(found[name], 0.2 * tensor)


def test_a_small_step_of_local_training_is_one_gradient():
    local = LocalSGD(1e-5, momentum=0.5, weight_decay=0.1, epochs=2, batch_size=4, proximal_mu=0.1)
    problem, (images, labels) = of_weights(local), batch()
    found = problem.simulate(images, labels, point=0.5)
    for name, tensor in problem.simulate(images, labels).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-9)


def test_the_slope_of_a_point_is_that_of_finite_differences():
    problem, (images, labels) = of_weights(), batch(2)
    distance = cosine(problem.target)

    def cost(point):
        return distance(problem.simulate(images, labels, point=point))

    point = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cost(point), point)
    difference = (cost(0.3 + 1e-5) - cost(0.3 - 1e-5)).detach() / 2e-5
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)


def test_a_search_moves_the_point_down_the_cost():
    problem, (images, labels) = of_weights(LocalSGD(0.3, epochs=8, batch_size=2)), batch()
    matching = Matching(problem, replace(POINT, iterations=10))
    (shift,) = matching.leaves
    before = matching(images, labels)
    before.backward(inputs=[shift])
    with torch.no_grad():
        shift -= 0.1 * shift.grad.sign()
    assert matching(images, labels) < before


def test_points_stay_between_the_weights():
    matching = Matching(of_weights(), POINT)
    for far, end in ((1e9, 1.0), (-1e9, 0.0)):
        matching.leaves[0].data.fill_(far)
        matching.confine()
        (point,) = matching.points(matching.leaves)
        assert point.item() == pytest.approx(end)


def test_each_round_has_a_point_of_its_own():
    model = network()
    sent = weights(model, *batch())
    earlier = EarlierUpdate(parts(model), sent, known(LOCAL))
    problem = Problem.of(model, parts(model), sent, known(LOCAL), [earlier])
    matching = Matching(problem, POINT)
    assert matching.leaves[0].shape == (2,)
    assert [point.item() for point in matching.points(matching.leaves)] == [START, START]


@pytest.mark.parametrize("local_steps", ["gradient", "surrogate"])
def test_steps_of_adam_are_no_gradient(local_steps):
    problem = of_weights(LocalSGD(0.01, epochs=2, batch_size=2, optimiser="adam"))
    with pytest.raises(ValueError, match="adam takes steps that are no multiple of a gradient"):
        Matching(problem, AttackSettings(local_steps=local_steps))


def test_one_local_step_needs_no_point():
    problem, (images, labels) = of_weights(LocalSGD(0.1, batch_size=4)), batch(2)
    costs = [Matching(problem, each)(images, labels) for each in (PLAIN, POINT)]
    assert torch.equal(*costs)


def test_other_words_for_local_steps_are_refused():
    with pytest.raises(ValueError, match="local_steps is none of unroll, gradient, surrogate"):
        AttackSettings(local_steps="sme")


def test_the_best_point_explains_more_than_the_ends():
    model, local = network(), LocalSGD(0.3, epochs=8, batch_size=2)
    images, labels = batch()
    found = consistency(
        model, parts(model), weights(model, images, labels, local), known(local), images, labels
    )
    problem = of_weights(local)
    ends = [
        1 - float(cosine(problem.target)(problem.simulate(images, labels, point=point)).detach())
        for point in (0.0, 1.0)
    ]
    assert 0 < found.point < 1
    assert max(ends) < found.one_gradient < found.cosine


def test_one_step_has_no_best_point():
    model = network()
    images, labels = batch()
    found = consistency(
        model, parts(model), gradient(model, images, labels), known(), images, labels
    )
    assert math.isnan(found.one_gradient)
    assert math.isnan(found.point)


def test_memory_grows_with_images_and_rounds():
    def needed(count, rounds=1, local=None):
        model, own = network(), known(local, count=count)
        images, labels = batch(count=count)
        sent = weights(model, images, labels, local) if local else gradient(model, images, labels)
        sent = replace(sent, num_examples=count)
        earlier = [EarlierUpdate(parts(model), sent, own)] * (rounds - 1)
        return step_bytes(Problem.of(model, parts(model), sent, own, earlier), PLAIN)

    fixed = 2 * needed(100) - needed(200)
    assert needed(400) == pytest.approx(fixed + 4 * (needed(100) - fixed), rel=1e-3)
    assert needed(100, rounds=3) == pytest.approx(3 * needed(100), rel=1e-3)
    # Two steps of half of the images are kept at the same time.
    assert needed(100, local=LocalSGD(0.1, batch_size=50)) == pytest.approx(
        needed(100) + fixed, rel=0.05
    )


@pytest.mark.slow
def test_four_rounds_give_away_more_than_one():
    """Gradients of eight digits, between which the network is trained on others."""
    data = load("digits")
    pixels, labels = data.pixels(data.test_images[:8]), data.test_labels[:8]
    inputs = data.normalise(pixels)
    model = build("convnet", shape=data.shape, classes=10, width=8, seed=0)
    own = Knowledge(data.shape, 10, data.mean, data.std, 8, labels, training_mode=False)
    updates = []
    for _ in range(4):
        state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        sent = batch_gradient(model, parts(model), {}, inputs, labels)
        updates.append(EarlierUpdate(state, Payload("gradient", sent, 8, 1), own))
        sgd = torch.optim.SGD(model.parameters(), lr=0.05)
        for places in torch.arange(320).split(32):
            sgd.zero_grad()
            train = data.normalise(data.pixels(data.train_images[places]))
            functional.cross_entropy(model(train), data.train_labels[places]).backward()
            sgd.step()

    def found(*rounds):
        last = updates[rounds[-1]]
        images = invert(
            model,
            last.global_state,
            last.payload,
            own,
            AttackSettings(sign="none", lr=0.3, schedule="cosine", iterations=200, tv=1e-3),
            generator=torch.Generator().manual_seed(0),
            earlier=[updates[each] for each in rounds[:-1]],
        ).images
        places, chosen = match(pixels, images)
        return float(psnr(pixels[places], images[chosen]).mean())

    assert found(0, 1, 2, 3) > max(found(0), found(3)) + 1
