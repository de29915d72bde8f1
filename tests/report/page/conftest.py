"""Runs and a comparison for the tests of the page, made once each."""

import functools

import pytest

from fedlab import compare
from fedlab.report.page import write_page
from tests.federations import finished, small

ATTACKED = {
    "model": {"name": "mlp"},
    "roles": [
        {"role": "leaking", "clients": "0"},
        {"role": "poisoning", "clients": "3", "data": {"attack": "badnets"}},
    ],
    "reconstructions": [
        {"clients": "0", "preset": "analytic", "labels": labels} for labels in ("known", "inferred")
    ],
}


@pytest.fixture(scope="session")
def attacked(tmp_path_factory):
    """Two rounds, the second under DP-SGD; one client leaks, one poisons."""
    scenario = small(
        name="at once <script>alert('hello')</script> & a very long name of an experiment",
        rounds=2,
        defenses=[{"name": "dp-sgd", "rounds": "2"}],
        **ATTACKED,
    )
    return finished(scenario, out=tmp_path_factory.mktemp("runs") / "a run").folder


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """One round in which nobody leaks, poisons, attacks or defends."""
    return finished(small(rounds=1), out=tmp_path_factory.mktemp("runs") / "plain").folder


@pytest.fixture(scope="session")
def comparison(tmp_path_factory):
    """Two defenses with two seeds each, one of them with a long name."""
    return compare(
        small(rounds=2, **ATTACKED),
        ["none", "dp-sgd:noise_multiplier=1.25+pruning"],
        seeds=2,
        out=tmp_path_factory.mktemp("comparison"),
        processes=1,
    )


@pytest.fixture(scope="session")
def written(request, tmp_path_factory):
    """Function from the name of a fixture above to the text of its page, written once."""

    @functools.cache
    def text(subject):
        path = tmp_path_factory.mktemp("page") / "new" / "page.html"
        return write_page(request.getfixturevalue(subject), path).read_text(encoding="utf-8")

    return text
