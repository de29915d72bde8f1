"""Partitions are disjoint, seeded, of the kind asked for, and leave no client empty."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab import BadInput
from fedlab.data import PARTITIONS, partition

SCHEMES = ("iid", "dirichlet", "classes")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def labels(n=600, classes=10, seed=0):
    return torch.randint(classes, (n,), generator=seeded(seed))


@settings(deadline=None, max_examples=60)
@given(
    scheme=st.sampled_from(SCHEMES),
    clients=st.integers(1, 25),
    n=st.integers(1, 200),
    alpha=st.floats(0.05, 100),
    per_client=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_parts_are_disjoint_and_none_is_empty(scheme, clients, n, alpha, per_client, seed):
    arguments = {
        "clients": clients,
        "scheme": scheme,
        "alpha": alpha,
        "classes_per_client": per_client,
    }
    try:
        parts = partition(labels(n, seed=seed), **arguments, generator=seeded(seed))
    except BadInput as error:
        assert "client" in str(error)  # noqa: PT017  (either outcome is right)
        return
    together = torch.cat(parts)
    assert len(parts) == clients
    assert all(len(part) for part in parts)
    assert len(together.unique()) == len(together)
    assert together.min() >= 0
    assert together.max() < n
    if scheme != "classes":
        assert len(together) == n
    again = partition(labels(n, seed=seed), **arguments, generator=seeded(seed))
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))
    assert all(torch.equal(part, part.sort().values) for part in parts)


def test_iid_parts_are_equal_in_size():
    sizes = [len(p) for p in partition(labels(103), clients=10, scheme="iid", generator=seeded())]
    assert max(sizes) - min(sizes) == 1


def test_each_client_has_k_classes():
    y = labels()
    parts = partition(y, clients=10, scheme="classes", classes_per_client=2, generator=seeded())
    held = [set(y[part].tolist()) for part in parts]
    assert all(len(classes) == 2 for classes in held)
    assert set.union(*held) == set(range(10))
    assert len(torch.cat(parts)) == len(y)


def test_too_many_classes_per_client_are_refused():
    with pytest.raises(BadInput, match="have 10 classes"):
        partition(labels(), clients=2, scheme="classes", classes_per_client=11, generator=seeded())


def test_a_small_alpha_gives_uneven_shares():
    def unevenness(alpha):
        y = labels(5000)
        parts = partition(y, clients=5, scheme="dirichlet", alpha=alpha, generator=seeded())
        counts = torch.stack([y[p].bincount(minlength=10).double() for p in parts])
        return float((counts / counts.sum(0)).std(0).mean())

    # Shares of Dirichlet(a) over 5 clients have standard deviation sqrt(0.16 / (5 a + 1)).
    assert unevenness(0.1) == pytest.approx((0.16 / 1.5) ** 0.5, rel=0.35)
    assert unevenness(100.0) < 0.05


def test_another_seed_gives_another_partition():
    one, other = (
        partition(labels(), clients=4, scheme="iid", generator=seeded(seed)) for seed in (0, 1)
    )
    assert not torch.equal(one[0], other[0])


def halves(labels, clients, settings, generator):
    return torch.arange(len(labels)).tensor_split(clients)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (lambda *_: 1 / 0, "failed: ZeroDivisionError: division by zero"),
        (lambda *_: None, "failed: TypeError"),
        (lambda *_: [torch.arange(3)], "gives 1 parts for 2 clients"),
        (lambda *_: [torch.arange(3), [4]], "int64 indices .* for client 1, not <class 'list'>"),
        (lambda *_: [torch.arange(3), torch.ones(2)], "not torch.float32"),
        (lambda *_: [torch.arange(3), torch.arange(2, 5)], "an image to more than one client"),
        (lambda *_: [torch.arange(3), torch.tensor([600])], "outside of 0 to 599"),
    ],
)
def test_a_partition_that_breaks_its_contract(monkeypatch, parts, sentence):
    monkeypatch.setitem(PARTITIONS._found, f"{__name__}:halves", parts)
    with pytest.raises(BadInput, match=f'partition "{__name__}:halves" .*{sentence}'):
        partition(labels(), clients=2, scheme=f"{__name__}:halves", generator=seeded())


def test_a_partition_by_import_path():
    parts = partition(labels(7), clients=2, scheme=f"{__name__}:halves", generator=seeded())
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6]]


def test_a_client_without_images_is_refused():
    with pytest.raises(BadInput, match="cannot share 3 images"):
        partition(labels(3), clients=5, scheme="iid", generator=seeded())
    with pytest.raises(BadInput, match=r"would hold no image.*data\.alpha"):
        partition(labels(25), clients=25, scheme="dirichlet", alpha=0.01, generator=seeded())


def test_natural_partition_keeps_each_place_at_one_client():
    places = torch.arange(70) % 7
    parts = partition(labels(70), clients=3, scheme="natural", groups=places, generator=seeded())
    own = [set(places[part].tolist()) for part in parts]
    assert sorted(map(len, own)) == [2, 2, 3]
    assert set.union(*own) == set(range(7))
    with pytest.raises(BadInput, match="needs to know where each image comes from"):
        partition(labels(70), clients=3, scheme="natural", generator=seeded())
