"""Tests of canary scores."""

import pytest
import torch
from torch import nn

from attacks.gradients import batch_gradient, clipped_gradient
from attacks.payload import Payload
from attacks.privacy_audit import scoring
from attacks.privacy_audit.bounds import auc
from attacks.privacy_audit.canaries import make_canaries, toss
from attacks.privacy_audit.observation import descent, example_gradients
from attacks.privacy_audit.scoring import CanaryScores
from fedlab.models import build

SHAPE = (1, 12, 12)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def network():
    return build("convnet", shape=SHAPE, classes=10, width=6, seed=1)


def parameters(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def images(count, seed=0):
    made = make_canaries(count, shape=SHAPE, classes=10, generator=seeded(seed))
    return made.images.float().div(127.5) - 1, made.labels


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


@pytest.mark.parametrize("clipping_norm", [None, 0.5])
def test_example_gradients_match_autograd(network, clipping_norm):
    pixels, labels = images(5)
    rows = example_gradients(
        network, parameters(network), {}, pixels, labels, clipping_norm=clipping_norm
    )
    for index, row in enumerate(rows):
        one = (pixels[index : index + 1], labels[index : index + 1])
        if clipping_norm is None:
            expected = batch_gradient(network, parameters(network), {}, *one)
        else:
            expected = clipped_gradient(
                network, parameters(network), {}, *one, clipping_norm=clipping_norm
            )
        torch.testing.assert_close(row, flat(expected), rtol=1e-4, atol=1e-6)


def test_weights_and_gradient_give_the_same_descent(network):
    state = parameters(network)
    gradient = batch_gradient(network, state, {}, *images(4))
    sent = Payload("gradient", gradient, num_examples=4, steps=1)
    after = sent.as_weights(state, lr=0.1)
    trained = Payload("weights", after, num_examples=4, steps=1)
    torch.testing.assert_close(descent(sent, state, lr=0.1), flat(gradient))
    torch.testing.assert_close(
        descent(trained, state, lr=0.1), flat(gradient), rtol=1e-3, atol=1e-5
    )
    assert trained.as_weights(state, lr=0.1) == after
    with pytest.raises(ValueError, match="different parameters"):
        descent(sent, {"other": torch.ones(1)}, lr=0.1)


def test_canaries_are_seeded_and_coins_fair():
    made = make_canaries(400, shape=(3, 8, 8), classes=7, generator=seeded())
    again = make_canaries(400, shape=(3, 8, 8), classes=7, generator=seeded())
    assert torch.equal(made.images, again.images)
    assert torch.equal(made.labels, again.labels)
    assert len(made) == 400
    assert (made.images.shape, made.images.dtype) == ((400, 3, 8, 8), torch.uint8)
    assert len(made.images.flatten(1).unique(dim=0)) == 400
    assert made.labels.unique().tolist() == list(range(7))
    assert 450 < int(toss(1000, generator=seeded()).sum()) < 550
    with pytest.raises(ValueError, match="at least 2"):
        make_canaries(1, shape=SHAPE, classes=7, generator=seeded())


def observed(network, *, others=0, noise=0.0, rounds=1, seed=0, scale=1.0):
    """Scores and coins of 60 canaries whose clipped gradients a client summed up."""
    pixels, labels = images(60, seed)
    included = toss(60, generator=seeded(seed + 1))
    background = images(others, 7) if others else None
    scores = CanaryScores(network, pixels, labels, clipping_norm=0.5, background=background)
    generator = seeded(seed + 2)
    for _ in range(rounds):
        state = {
            name: p + 0.02 * torch.randn(p.shape, generator=generator)
            for name, p in parameters(network).items()
        }
        sums = clipped_gradient(
            network, state, {}, pixels[included], labels[included], clipping_norm=0.5, batch_size=1
        )
        sent = {
            name: scale * (g + noise * torch.randn(g.shape, generator=generator))
            for name, g in sums.items()
        }
        scores.observe(Payload("gradient", sent, num_examples=30, steps=1), state, {}, lr=0.1)
    return scores, included


def separation(scores, included):
    return auc(scores.scores()[included], scores.scores()[~included])


def test_regression_finds_every_coin_without_noise(network):
    scores, included = observed(network)
    found = scores.scores()
    assert separation(scores, included) == 1
    # Included canaries contribute one gradient, the others none.
    assert float(found[included].min() - found[~included].max()) > 0.9
    assert repr(scores) == "CanaryScores(60 canaries, 0 background images, 1 rounds)"


def test_noise_hides_coins_and_rounds_reveal_them(network):
    loud = observed(network, noise=3.0)
    assert separation(*loud) < 0.75
    quiet = observed(network, noise=0.1, rounds=1)
    longer = observed(network, noise=0.1, rounds=6)
    assert 0.75 < separation(*quiet) < separation(*longer)


def test_scores_ignore_the_scale_of_updates(network):
    one, _ = observed(network, noise=0.1)
    other, _ = observed(network, noise=0.1, scale=100.0)
    torch.testing.assert_close(100 * one.scores(), other.scores(), rtol=1e-3, atol=1e-3)


def test_blockwise_gradients_give_the_same_scores(network, monkeypatch):
    whole, _ = observed(network, others=20, noise=0.1)
    monkeypatch.setattr(scoring, "NUMBERS", 17 * sum(p.numel() for p in network.parameters()))
    parts, _ = observed(network, others=20, noise=0.1)
    torch.testing.assert_close(parts.scores(), whole.scores(), rtol=1e-4, atol=1e-5)


def test_background_is_not_mistaken_for_canaries(network):
    """A client with real images, here other noise, that the attacker knows in kind."""
    pixels, labels = images(60)
    included = toss(60, generator=seeded(1))
    own, classes = images(40, 5)
    state = parameters(network)
    everything = (torch.cat([pixels[included], own]), torch.cat([labels[included], classes]))
    sums = clipped_gradient(network, state, {}, *everything, clipping_norm=0.5, batch_size=1)
    sent = Payload("gradient", sums, num_examples=70, steps=1)
    found = []
    for background in (None, (own, classes)):
        scores = CanaryScores(network, pixels, labels, clipping_norm=0.5, background=background)
        scores.observe(sent, state, {}, lr=0.1)
        found.append(separation(scores, included))
    assert found[0] < found[1] == 1


def test_scores_are_finite_with_few_parameters():
    tiny = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    pixels, labels = images(60)
    scores = CanaryScores(
        tiny, pixels, labels % 2, background=(images(300, 3)[0], images(300)[1] % 2)
    )
    state = parameters(tiny)
    sent = Payload("gradient", batch_gradient(tiny, state, {}, pixels[:30], labels[:30] % 2), 30, 1)
    scores.observe(sent, state, {}, lr=0.1)
    assert bool(scores.scores().isfinite().all())
    assert float(scores.scores()[:30].mean()) > float(scores.scores()[30:].mean())


def test_scores_are_zero_before_the_first_round(network):
    pixels, labels = images(60)
    scores = CanaryScores(network, pixels, labels)
    coins = toss(60, generator=seeded(4))
    assert not bool(scores.scores().any())
    assert scores.outcome(coins, delta=1e-5).epsilon == 0
    still = {name: torch.zeros_like(p) for name, p in parameters(network).items()}
    scores.observe(Payload("gradient", still, 1, 1), parameters(network), {}, lr=0.1)
    assert not bool(scores.scores().any())
    broken = {name: torch.full_like(p, torch.nan) for name, p in still.items()}
    with pytest.raises(ValueError, match="not finite"):
        scores.observe(Payload("gradient", broken, 1, 1), parameters(network), {}, lr=0.1)
    assert scores.rounds == 1
