"""Tests of surrogates at several stages of training."""

import pytest
import torch
from torch import nn

from attacks.knowledge import LocalSGD
from attacks.poisoning.ensemble import Recorded, Staggered, record
from attacks.poisoning.surrogate import Surrogate


def start(number):
    with torch.random.fork_rng():
        torch.manual_seed(number)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    return Surrogate(model, dict(model.named_parameters()), {}, lambda pixels: pixels - 0.5)


def data(n=20):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, 4, 4, generator=generator), torch.randint(3, (n,), generator=generator)


def staggered(pixels, labels, *, seed=0, begun=None, **options):
    def starting(number):
        if begun is not None:
            begun.append(number)
        return start(number)

    options = {"models": 3, "epochs": 6, "local": LocalSGD(0.2, batch_size=5), **options}
    return Staggered(
        starting, pixels, labels, generator=torch.Generator().manual_seed(seed), **options
    )


def weights(surrogate):
    return torch.cat([p.flatten() for p in surrogate.parameters.values()])


def moved(ensemble):
    return [
        not torch.equal(weights(s), weights(start(i))) for i, s in enumerate(ensemble.surrogates)
    ]


def test_ages_are_staggered_by_default():
    assert moved(staggered(*data())) == [False, True, True]
    assert moved(staggered(*data(), staggered=False)) == [False, False, False]


def test_surrogates_train_by_plain_sgd():
    pixels, labels = data()
    ensemble = staggered(
        pixels, labels, models=1, local=LocalSGD(0.2, weight_decay=0.1, batch_size=5)
    )
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).split(5)
    model = start(0).model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, weight_decay=0.1)
    for places in order:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pixels[places] - 0.5), labels[places]).backward()
        optimizer.step()
    ensemble.advance(pixels)
    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(weights(ensemble.surrogates[0]), expected)
    assert not any(p.requires_grad for p in ensemble.surrogates[0].parameters.values())


def test_old_surrogates_restart_with_new_weights():
    pixels, labels = data()
    begun = []
    ensemble = staggered(pixels, labels, begun=begun)
    seen = []
    for _ in range(7):
        seen.append(list(begun))
        ensemble.advance(pixels)
    # Ages 0, 2 and 4 of 6 epochs: the oldest ends after two, the youngest after six.
    assert [len(numbers) for numbers in seen] == [3, 3, 4, 4, 5, 5, 6]
    assert begun == [0, 1, 2, 3, 4, 5]
    fresh = staggered(pixels, labels)
    fresh.advance(pixels), fresh.advance(pixels)
    assert torch.equal(weights(fresh.surrogates[2]), weights(start(3)).detach())


def test_advance_by_less_than_an_epoch():
    pixels, labels = data()
    halves = staggered(pixels, labels, models=1, advance=2)
    halves.advance(pixels)
    first = weights(halves.surrogates[0])
    halves.advance(pixels)
    whole = staggered(pixels, labels, models=1)
    whole.advance(pixels)
    assert torch.equal(weights(halves.surrogates[0]), weights(whole.surrogates[0]))
    assert not torch.equal(first, weights(whole.surrogates[0]))


def test_recorded_ensemble_replays():
    pixels, labels = data()
    moments = record(staggered(pixels, labels), pixels, steps=3)
    ensemble, recorded = staggered(pixels, labels), Recorded(moments)
    for _ in range(3):
        for one, other in zip(ensemble.surrogates, recorded.surrogates, strict=True):
            assert torch.equal(weights(one), weights(other))
        ensemble.advance(pixels), recorded.advance(pixels)
    assert torch.equal(weights(recorded.surrogates[1]), weights(moments[0][1]))


@pytest.mark.parametrize("seed", [0, 1])
def test_same_generator_gives_the_same_order(seed):
    pixels, labels = data()
    one, other = staggered(pixels, labels, seed=0), staggered(pixels, labels, seed=seed)
    assert torch.equal(weights(one.surrogates[2]), weights(other.surrogates[2])) == (seed == 0)
