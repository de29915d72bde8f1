"""Settings of an attack that would do nothing are refused, and say what to do instead."""

import pytest

from fedlab.core.errors import BadInput
from tests.federations import finished, small

BATCH = {"role": "leaking", "clients": "0", "batch_size": 4}
QUICK = {"preset": "fast", "iterations": 1, "power": False}
"""An attack that takes no time."""


@pytest.fixture(scope="module")
def federation():
    """Client 0 sends the gradient of all of its four images, all others several local steps."""
    tables = {"roles": [BATCH], "captures": {"keep": "all"}}
    return finished(small("data.train=16", "rounds=2", "training.batch_size=2", **tables))


@pytest.mark.parametrize("choice", ["gradient", "surrogate"])
def test_local_steps_of_one_gradient_are_refused(federation, choice):
    with pytest.raises(BadInput, match="is of a single one: leave it out"):
        federation.reconstruct(round=2, client=0, local_steps=choice, **QUICK)
    leak = federation.reconstruct(round=2, client=1, local_steps=choice, **QUICK)
    assert leak.reconstruction.attack.local_steps == choice


def test_more_rounds_than_were_kept_are_refused(federation):
    with pytest.raises(BadInput, match=r"has 1 earlier one, .* set it to 2"):
        federation.reconstruct(round=2, client=0, rounds_jointly=3, **QUICK)
    with pytest.raises(BadInput, match=r"has no earlier one, .* leave it out"):
        federation.reconstruct(round=1, client=0, rounds_jointly=2, **QUICK)
    leak = federation.reconstruct(round=2, client=0, rounds_jointly=2, **QUICK)
    assert leak.reconstruction.rounds == 2


@pytest.mark.parametrize("setting", [{"rounds_jointly": 2}, {"local_steps": "surrogate"}])
def test_settings_that_a_method_ignores_are_refused(federation, setting):
    with pytest.raises(BadInput, match=f"spear does not use {next(iter(setting))}"):
        federation.reconstruct(round=2, client=1, preset="spear", power=False, **setting)


def test_rounds_of_a_secure_sum_are_refused():
    secure = {"defenses": [{"name": "secure-aggregation"}], "captures": {"keep": "all"}}
    summed = finished(small("data.train=16", "rounds=2", **secure))
    with pytest.raises(BadInput, match=r"one client .* sum of clients .* leave rounds_jointly out"):
        summed.reconstruct(round=2, client=0, rounds_jointly=2, **QUICK)


def test_settings_of_a_read_out_are_refused():
    server = {"malicious": {"attack": "trap-weights", "rounds": "1"}}
    network = {"name": "mlp", "width": 40}
    tables = {"server": server, "model": network, "captures": {"keep": "all"}}
    trapped = finished(small("rounds=1", **tables))
    with pytest.raises(
        BadInput, match=r"trap-weights, which reads .* leave iterations, preset out"
    ):
        trapped.reconstruct(round=1, client=0, preset="spear", iterations=3, power=False)
    leak = trapped.reconstruct(round=1, client=0, labels="inferred", power=False)
    assert leak.rows[0].preset == "trap-weights"
