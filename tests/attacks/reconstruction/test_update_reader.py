"""What a network reads of an update: inner products, noise, the length, and the labels."""

import math

import pytest
import torch

from attacks.reconstruction.update_reader import UpdateReader


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def reader(entries, bins=1_024, classes=0, seed=0):
    return UpdateReader.of(
        {"a": torch.zeros(entries)}, generator=draws(seed), classes=classes, bins=bins
    )


def two_updates(entries):
    first, other = torch.randn(2, entries, generator=draws(1))
    second = 0.6 * first + 0.8 * other
    return [{"a": one[:10].view(2, 5), "b": one[10:]} for one in (first, second)]


def cosine(entries, bins):
    first, second = (reader(entries, bins)(one, None)[1:] for one in two_updates(entries))
    return float(first @ second / first.norm() / second.norm())


def true_cosine(entries):
    flat = [torch.cat([t.flatten() for t in one.values()]) for one in two_updates(entries)]
    return float(flat[0] @ flat[1] / flat[0].norm() / flat[1].norm())


def test_a_small_update_loses_nothing():
    update, _ = two_updates(300)
    sketch = reader(300)(update, None)[1:]
    flat = torch.cat([tensor.flatten() for tensor in update.values()])
    assert sketch.abs().sort().values == pytest.approx((flat / flat.norm()).abs().sort().values)


def test_a_hashed_update_keeps_inner_products():
    # The standard error of a cosine in 1,024 bins is 1/32.
    assert cosine(20_000, 1_024) == pytest.approx(true_cosine(20_000), abs=0.1)


def test_bins_carry_equally_strong_noise():
    made = reader(10_000, bins=100)
    bins = torch.stack(
        [made({"a": torch.randn(10_000, generator=draws(seed))}, None)[1:] for seed in range(400)]
    )
    # A sketch of length-1 noise: each of 10,000 entries has a deviation of 1/100.
    assert bins.std(0) == pytest.approx(torch.full((100,), 0.01), rel=0.25)


def test_length_is_read_as_a_logarithm():
    update, _ = two_updates(50)
    twice = {name: 2 * tensor for name, tensor in update.items()}
    first, second = (reader(50)(one, None) for one in (update, twice))
    assert float(second[0] - first[0]) == pytest.approx(math.log(2), abs=1e-5)
    assert second[1:] == pytest.approx(first[1:])


@pytest.mark.parametrize("labels", [torch.tensor([2, 2, 0]), torch.eye(4)[torch.tensor([2, 2, 0])]])
def test_known_labels_are_read_as_shares(labels):
    update, _ = two_updates(50)
    found = reader(50, classes=4)(update, labels)
    assert found[1:5].tolist() == pytest.approx([1 / 3, 0, 2 / 3, 0])


def test_features_of_the_last_layer_are_read():
    features, errors = torch.rand(6, generator=draws(2)), torch.randn(4, generator=draws(3))
    update = {"a": torch.randn(9, generator=draws(4)), "w": errors.outer(features), "b": errors}
    made = UpdateReader.of(update, generator=draws())
    found = made(update, None)
    assert made.groups == (2, 6, 37)
    assert found[2:8] == pytest.approx(features / features.norm(), abs=1e-5)
    assert float(found[1]) == pytest.approx(math.log(features.norm()), abs=1e-5)


def test_same_seed_reads_the_same_bits():
    update, _ = two_updates(5_000)
    first, again, other = (reader(5_000, seed=seed)(update, None) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_zero_update_is_read_as_zero():
    found = reader(20)({"a": torch.zeros(20)}, None)
    assert found.isfinite().all()
    assert not found[1:].any()


@pytest.mark.parametrize(
    ("update", "classes", "said"),
    [
        (torch.ones(21), 0, "trained on updates of 20 entries, but this one has 21"),
        (torch.full((20,), math.inf), 0, "not finite"),
        (torch.ones(20), 4, "labels, but they are unknown"),
    ],
)
def test_an_update_of_another_kind_is_refused(update, classes, said):
    with pytest.raises(ValueError, match=said):
        reader(20, classes=classes)({"a": update}, None)
