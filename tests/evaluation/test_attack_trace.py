"""A trace sees an attack at iterations of its choice, and changes nothing."""

import math

import numpy as np
import pytest
import torch

from attacks.reconstruction.watch import Progress
from fedlab.evaluation.attack_trace import AttackTrace
from fedlab.metrics.images import psnr
from tests.federations import PLAIN, finished, small
from tests.report.legible import assert_legible, pixels_of, said


@pytest.fixture(scope="module")
def federation():
    return finished(
        small(
            rounds=1,
            roles=[{"role": "leaking", "clients": "0", "batch_size": 2}],
            captures={"keep": "all"},
        )
    )


def attack(federation, watch, **settings):
    given = PLAIN | {"iterations": 20, "restarts": 2} | settings
    return federation.reconstruct(round=1, client=0, watch=watch, **given)


@pytest.fixture(scope="module")
def traced(federation):
    trace = AttackTrace()
    return trace, attack(federation, trace, preset="auto")  # whose trials are not watched


def test_it_looks_at_powers_of_two_and_the_end(traced):
    trace, _ = traced
    steps = [1, 2, 4, 8, 16, 20]
    assert [(p.restart, p.iteration) for p in trace.looks] == [
        (restart, step) for restart in (0, 1) for step in steps
    ]


@pytest.mark.parametrize("settings", [{}, {"iterations": 16}])
def test_whoever_watches_changes_no_bit(federation, settings):
    trace = AttackTrace()
    seen, unseen = attack(federation, trace, **settings), attack(federation, None, **settings)
    assert torch.equal(seen.rebuilt, unseen.rebuilt)
    assert torch.equal(seen.reconstruction.costs, unseen.reconstruction.costs)
    assert trace.looks[-1].iteration == settings.get("iterations", 20)


def test_iterations_may_be_chosen(federation):
    trace = AttackTrace(at=[3, 10])
    attack(federation, trace, restarts=1)
    assert [look.iteration for look in trace.looks] == [3, 10, 20]


def test_table_has_costs_and_psnr(traced):
    trace, leak = traced
    table = trace.table(leak.originals)
    assert list(table) == ["restart", "iteration", "cost", "psnr"]
    best = table[table["restart"] == leak.reconstruction.restart]
    costs = leak.reconstruction.costs
    assert best["cost"].tolist() == pytest.approx([float(costs[i - 1]) for i in best["iteration"]])
    assert list(trace.table()) == ["restart", "iteration", "cost"]


def test_images_stay_paired_as_they_fit_at_the_end():
    truth = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    trace = AttackTrace()
    early, late = torch.tensor([0.1, 0.2]), torch.tensor([0.9, 0.1])
    for step, levels in ((1, early), (2, late)):
        trace(Progress(0, step, 1.0, levels.view(2, 1, 1, 1).expand(2, 1, 2, 2)))
    first, last = trace.quality(truth)
    assert last.tolist() == pytest.approx([20.0, 20.0])
    assert first.tolist() == pytest.approx(
        psnr(truth, early.flip(0).view(2, 1, 1, 1).expand(2, 1, 2, 2)).tolist()
    )
    with pytest.raises(ValueError, match="have shape"):
        trace.quality(truth[:1])


def test_another_attack_begins_it_anew(federation):
    trace = AttackTrace()
    attack(federation, trace, restarts=1, iterations=9)
    attack(federation, trace, restarts=1, iterations=5)
    assert [look.iteration for look in trace.looks] == [1, 2, 4, 5]
    assert repr(trace) == "AttackTrace(4 states of 1 restarts)"


def progress(step, *, restart=0, side=2):
    return Progress(restart, step, 1.0, torch.zeros(1, 1, side, side))


@pytest.mark.parametrize("second", [progress(4), progress(2), progress(8, side=3)])
def test_looks_of_two_attacks_never_mix(second):
    trace = AttackTrace()
    for step in (1, 2, 4):
        trace(progress(step))
    trace(progress(1, restart=1))  # another restart of the same attack
    trace(second)
    assert [look.iteration for look in trace.looks] == [second.iteration]
    assert trace.looks[0].images.shape == second.images.shape


@pytest.mark.parametrize("settings", [{}, {"workers": 2}])
def test_last_state_is_reported_once(federation, settings):
    class Watch:
        def __init__(self):
            self.looks = []

        def wants(self, iteration):
            return iteration in (2, 4)

        def __call__(self, progress):
            self.looks.append((progress.restart, progress.iteration))

    watch = Watch()
    attack(federation, watch, iterations=4, **settings)
    assert sorted(watch.looks) == [(0, 2), (0, 4), (1, 2), (1, 4)]


def test_figure_shows_costs_psnr_and_images(traced):
    trace, leak = traced
    figure = trace.plot(leak.originals)
    cost, quality = [axes for axes in figure.axes if axes.lines]
    table = trace.table(leak.originals)
    best = min((0, 1), key=lambda r: table[table["restart"] == r]["cost"].iloc[-1])
    for axes, column in ((cost, "cost"), (quality, "psnr")):
        for line in axes.lines:
            own = table[table["restart"] == int(line.get_label().removeprefix("restart "))]
            assert line.get_xdata().tolist() == own["iteration"].tolist()
            assert line.get_ydata().tolist() == pytest.approx(own[column].tolist())
        assert axes.lines[-1].get_label() == f"restart {best}"
    assert cost.get_yscale() == "log"
    images = pixels_of(figure)
    assert len(images) == 2 * 7  # true and six looks, of two images
    np.testing.assert_allclose(images[0], leak.originals[0, 0].numpy())
    last = [look for look in trace.looks if look.restart == best][-1]
    ends = [psnr(leak.originals[:1], torch.tensor(images[6])[None, None])[0]]
    assert float(ends[0]) == pytest.approx(
        float(trace.quality(leak.originals)[-1 if best else 5][0])
    )
    assert any(np.allclose(images[6], image[0].numpy()) for image in last.images)
    assert_legible(figure)
    assert f"to {table[table['restart'] == best]['psnr'].iloc[-1]:.1f} dB" in figure.alt


@pytest.mark.parametrize("chance", [[12.0, 14.0], [99.0, 99.0], [0.0, 0.0]])
def test_chance_is_a_line_beside_the_psnr(traced, chance):
    trace, leak = traced
    figure = trace.plot(leak.originals, chance=chance)
    _, quality = [axes for axes in figure.axes if axes.lines]
    (line,) = [line for line in quality.lines if line.get_label() == "chance"]
    middle = sum(chance) / 2
    assert set(line.get_ydata()) == {middle}
    assert f"chance {middle:.1f}" in said(figure)
    assert f"dB beside {middle:.1f} dB of chance" in figure.alt
    assert_legible(figure)


def test_chance_belongs_to_the_true_images(traced):
    trace, leak = traced
    with pytest.raises(ValueError, match=r"3 values.*each true image \(2\)"):
        trace.plot(leak.originals, chance=[1.0] * 3)
    with pytest.raises(ValueError, match="none is given"):
        trace.plot(chance=[1.0])


def test_without_truth_there_is_no_psnr(traced):
    figure = traced[0].plot()
    assert len([axes for axes in figure.axes if axes.lines]) == 1
    assert "dB" not in said(figure)
    assert_legible(figure)


def made_up(costs, n=1, steps=None):
    trace = AttackTrace()
    for step, cost in zip(steps or range(1, len(costs) + 1), costs, strict=True):
        trace(Progress(0, step, cost, torch.full((n, 3, 4, 6), 0.5)))
    return trace


@pytest.mark.parametrize(
    "trace",
    [
        made_up([0.5]),
        made_up([0.5, 0.0]),
        made_up([0.0]),
        made_up([math.nan, math.nan]),
        made_up([1.0] * 5, n=9, steps=[1, 4096, 4097, 4098, 123_456]),
        made_up([10.0**-k for k in range(12)], steps=[2**k for k in range(12)]),
    ],
    ids=["one look", "nothing left", "zero", "no number", "crowded", "steep"],
)
def test_hard_cases_can_be_read(trace):
    truth = torch.zeros_like(trace.looks[0].images)
    assert_legible(trace.plot(truth))
    assert_legible(trace.plot())


def test_a_trace_that_saw_nothing():
    assert AttackTrace().table().empty
    with pytest.raises(ValueError, match="saw no attack"):
        AttackTrace().plot()
