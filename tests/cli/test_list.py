"""``fedlab list``: every kind, and plug-ins of packages without importing them."""

from importlib.metadata import EntryPoint

import pytest

from fedlab.cli import list as command
from fedlab.data import DATASETS


@pytest.mark.parametrize("kind", command.KINDS)
def test_every_kind_is_listed(fedlab, kind):
    code, out, err = fedlab("list", kind)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 4


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("defenses", ("dp-sgd", "clipping_norm=1.0")),
        ("rules", ("FedTrimmedAvg", "beta=0.2", "GeometricMedian", "weighted=false")),
        ("models", ("convnet8", "width=64")),
        ("datasets", ("npz:PATH", "digits")),
        ("partitions", ("dirichlet",)),
    ],
)
def test_settings_are_listed_with_their_defaults(fedlab, kind, words):
    out = fedlab("list", kind)[1]
    for word in words:
        assert word in out


def test_arguments_that_nobody_can_set_are_left_out(fedlab):
    assert "min_train_nodes" not in fedlab("list", "rules")[1]


def test_an_unknown_kind_names_the_nearest(fedlab):
    code, _, err = fedlab("list", "defences")
    assert code == 2
    assert 'did you mean "defenses"' in err


@pytest.fixture
def package(monkeypatch):
    """Entry points of a package: one works, one cannot be imported."""
    group = DATASETS.group
    points = [
        EntryPoint("noise", "tests.foreign:images", group),
        EntryPoint("lost", "no.such:images", group),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    monkeypatch.setitem(
        DATASETS.__dict__, "installed", {point.name: point.value for point in points}
    )
    return points


def test_package_plugins_are_named_but_not_imported(fedlab, package, monkeypatch):
    monkeypatch.setattr("tests.foreign.images.__doc__", "Random pixels.", raising=False)
    monkeypatch.setattr(DATASETS, "_found", {})
    code, out, _ = fedlab("list", "datasets")
    assert code == 0
    assert "noise" in out
    assert "of the package" in out
    assert "noise" not in DATASETS._found


def test_plugins_of_packages_are_described_on_request(fedlab, package, monkeypatch):
    monkeypatch.setattr("tests.foreign.images.__doc__", "Random pixels.")
    code, out, _ = fedlab("list", "datasets", "--installed")
    assert code == 0
    assert "Random pixels." in out
    assert "cannot be imported" in out
