"""The benchmark of theory measures each run once, and its ranks and minima are what they say."""

from types import SimpleNamespace

import pytest
import torch
from pydantic import TypeAdapter

from benchmarks.kept import Kept
from benchmarks.minima import _best_linear
from benchmarks.ranks import effective_rank
from benchmarks.theory_runs import Bench, Measured, leakage, squared_norm
from fedlab import Federation
from tests.federations import small


def bench(tmp_path, seeds):
    file = tmp_path / "cells.jsonl"
    return Bench(tmp_path / "set.npz", seeds, "cpu", Kept(file, "stamp", TypeAdapter(Measured)))


def test_finished_runs_are_not_measured_again(tmp_path):
    asked = []

    def measure(seed):
        asked.append(seed)
        return {"accuracy": [seed / 10], "PSNR": [20.0, 30.0]}

    bench(tmp_path, range(2)).each("arm", measure)
    again = bench(tmp_path, range(3))
    runs = again.each("arm", measure)
    assert asked == [0, 1, 2]
    accuracy, psnr = again.figures({"arm": runs})
    assert (accuracy.name, accuracy.unit) == ("set, arm: accuracy", "")
    assert accuracy.values == [0, 0.1, 0.2]
    assert (psnr.unit, len(psnr.values)) == ("dB", 6)


@pytest.mark.parametrize(
    ("matrix", "share"), [(torch.eye(4), 1.0), (torch.ones(4, 4), 0.25)], ids=["full", "one"]
)
def test_effective_rank_is_that_of_each_frequency(matrix, share):
    state = {"first": torch.ones(4, 1, 3, 3), "later": matrix.view(4, 4, 1, 1)}
    assert effective_rank(SimpleNamespace(state=state)) == share


def test_squared_norm_leaves_buffers_out():
    run = Federation(small(model={"name": "convnet", "width": 4, "norm": "batch"}))
    expected = sum(float(p.detach().square().sum()) for p in run.federated.model.parameters())
    assert squared_norm(run) == pytest.approx(expected)
    assert any("running_var" in name for name in run.state)


def test_leakage_has_a_value_for_each_image():
    attack = {"clients": "0", "iterations": 1}
    roles = [{"role": "leaking", "clients": "0", "batch_size": 3}]
    run = Federation(small(rounds=1, roles=roles, reconstructions=[attack]))
    found = leakage(run.step().leakage)
    assert {name: len(values) for name, values in found.items()} == {
        "PSNR": 3,
        "PSNR above chance": 3,
        "leaks": 3,
    }


def test_best_linear_classifier_has_no_gradient():
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 4, generator=draws, dtype=torch.float64)
    labels = torch.randint(3, (200,), generator=draws)
    linear = _best_linear(inputs, labels, 3)
    loss = torch.nn.functional.cross_entropy(linear(inputs), labels)
    gradient = torch.autograd.grad(loss, list(linear.parameters()))
    assert max(float(each.abs().max()) for each in gradient) < 1e-7
