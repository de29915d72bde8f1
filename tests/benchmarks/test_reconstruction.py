"""The comparison with breaching: nobody is favoured, and its sums are right."""

from dataclasses import replace
from functools import reduce
from importlib.util import find_spec
from operator import add

import pytest
import torch

from benchmarks import long, reconstruction, tuning, victims
from benchmarks.breaching_peer import Mark, PeerResult
from benchmarks.families import FAMILIES, LOCAL, NARROW, PUBLISHED, STEPS, TRAINED, Tuned
from benchmarks.options import Options
from benchmarks.reconstruction import ON_GPU, PARTS, SETTINGS, SHARES, Line, Outcome, Setting
from benchmarks.report import Report
from fedlab.core.errors import BadInput
from fedlab.data import load
from tests import real_images


def names(families):
    return [family.name for family in families]


@pytest.mark.parametrize("family", FAMILIES, ids=names(FAMILIES))
def test_settings_are_chosen_on_other_images_than_those_shown(family):
    shown = {place for setting in SETTINGS + ON_GPU for place in setting.places}
    assert not shown.union(long.IMAGES, long.ON_TRAINED) & set(family.tuned_on)


@pytest.mark.parametrize("family", FAMILIES, ids=names(FAMILIES))
def test_both_attackers_have_settings_that_both_walks_try(family):
    for name, values in tuning.SHARED.items():
        assert getattr(family.breaching, name) in values
        assert getattr(family.ours, name) in values
    assert family.ours.betas in tuning.OWN["betas"]


def test_all_settings_are_breachings_as_well():
    assert set(tuning.SHARED) <= set(Tuned.__dataclass_fields__)


class TestWalk:
    def walked(self, starts, axes, quality):
        asked = []

        def noted(settings):
            asked.append(settings)
            return quality(settings)

        return tuning.walked("here", starts, axes, noted), asked

    def test_it_keeps_the_best_of_each_setting_before_the_next(self):
        axes = {"lr": (0.1, 0.3, 1.0), "tv": (1e-4, 1e-2), "sign": ("hard", "none")}
        found, asked = self.walked(
            [PUBLISHED], axes, lambda s: (s.lr == 0.3) + (s.tv == 1e-2) - (s.sign == "none")
        )
        best, value = found.best
        assert (best.lr, best.tv, best.sign, value) == (0.3, 1e-2, "hard", 2)
        assert [each.lr for each in asked[3:]] == [0.3] * 3
        assert found.tried == tuple(
            (s, (s.lr == 0.3) + (s.tv == 1e-2) - (s.sign == "none")) for s in asked
        )

    def test_it_begins_with_the_best_start_and_never_leaves_it_for_less(self):
        good = replace(PUBLISHED, tv=0.1)
        found, asked = self.walked([PUBLISHED, good], {"lr": (0.5, 1.0)}, lambda s: s.tv - s.lr)
        assert found.best[0] == good
        assert all(each.tv == 0.1 for each in asked[1:])

    def test_nothing_is_tried_twice(self):
        _, asked = self.walked([PUBLISHED, PUBLISHED], tuning.SHARED, lambda s: 0.0)
        assert len(asked) == len(set(asked))
        assert len(asked) == 1 + sum(len(values) - 1 for values in tuning.SHARED.values())


def test_a_family_cuts_its_images_into_batches():
    data = load("digits")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    found = replace(STEPS, batch=2).victims(network, data, (0, 1, 2))
    assert [len(one.labels) for one in found] == [2, 1]
    assert [one.payload.kind for one in found] == ["weights"] * 2
    assert [one.payload.steps for one in found] == [2, 1]
    assert found[0].knowledge.local == LOCAL
    assert torch.equal(found[1].pixels, data.pixels(data.test_images[2:3]))


def test_only_those_of_a_trained_network_are_attacked_in_one_process():
    assert list(Setting("x", NARROW, (0, 1, 2), 8).parts()) == [(0,), (1,), (2,)]
    assert list(Setting("x", STEPS, tuple(range(8)), 8).parts()) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert list(Setting("x", TRAINED, (0, 1, 2), 8).parts()) == [(0, 1, 2)]


class TestOutcome:
    def test_a_sum_is_of_the_images_of_both(self):
        one = Outcome((20.0,), (0.5,), 2.0, ((10.0,), (20.0,)))
        two = Outcome((30.0, 31.0), (0.6, 0.7), 3.0, ((11.0, 12.0), (30.0, 31.0)))
        both = one + two
        assert both == Outcome(
            (20.0, 30.0, 31.0), (0.5, 0.6, 0.7), 5.0, ((10.0, 11.0, 12.0), (20.0, 30.0, 31.0))
        )
        assert Outcome() + one == one

    def test_it_settles_where_the_mean_comes_near_the_last(self):
        # Alone the first image is there at once, and the second only at the end.
        way = [(20.0, 10.0 + at) for at in range(PARTS)]
        assert Outcome(way=tuple(way)).settled == 1
        way[PARTS // 2 :] = [(20.0, 10.0 + PARTS)] * (PARTS // 2)
        assert Outcome(way=tuple(way)).settled == pytest.approx(0.5 + 1 / PARTS)


def test_where_breaching_ended_early_its_answer_stays(monkeypatch):
    data = load("digits")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    (one,) = replace(NARROW, batch=2).victims(network, data, (0, 1))
    first = Mark(1, 0.1, torch.zeros_like(one.pixels))
    ended = PeerResult(
        one.pixels, cost=0.0, seconds=0.2, processor_seconds=0.2, iterations=1, trace=(first,)
    )
    monkeypatch.setattr(reconstruction, "breached", lambda *_, **__: ended)
    found = reconstruction._breaching([one, one], PUBLISHED, PARTS)
    assert len(found.way) == PARTS
    assert found.way[0] != found.psnr
    assert set(found.way[1:]) == {found.psnr}


def line(ours, published=(20.0, 22.0), tuned=(24.0, 26.0)):
    """One in which ours takes a second for each sixteenth, and breaching 16."""
    way = tuple((at, at) for at in range(PARTS))
    return Line(
        name="x",
        ratios=(1.1, 0.9, 1.2),
        seconds=(0.1,),
        published=Outcome(published, (0.5, 0.5), 16.0, way),
        tuned=Outcome(tuned, (0.5, 0.5), 16.0, way),
        ours={s: Outcome(psnr, (0.5, 0.5), 16.0 / s) for s, psnr in zip(SHARES, ours, strict=True)},
        accuracy=None,
    )


class TestLine:
    def test_a_rival_is_reached_by_the_shortest_attack_whose_mean_is_no_lower(self):
        here = line([(30.0, 11.0), (10.0, 32.0), (19.0, 23.5), (24.0, 26.0), (10.0, 10.0)])
        assert here.reached(here.published) == 2.0
        assert here.reached(here.tuned) == 8.0
        assert here.reached(replace(here.tuned, psnr=(30.0, 30.0))) is None

    def test_claims_hold_or_fail_by_their_goals(self):
        good = line([(21.0, 21.0), (25.0, 25.0), (25.0, 25.0), (25.0, 25.0), (25.0, 25.0)])
        assert [claim.holds for claim in reconstruction._claims(good)] == [True] * 4
        bad = line([(9.0, 9.0), (9.0, 9.0), (21.0, 21.0), (21.0, 21.0), (20.0, 20.0)])
        bad = replace(bad, ratios=(0.9, 0.9, 1.2))
        said = reconstruction._claims(bad)
        assert [claim.holds for claim in said] == [False] * 4
        assert "0.250 of its time" in said[2].text
        assert "never reached" in said[3].text

    def test_a_sum_is_of_the_victims_of_both(self):
        one, two = line([(10.0, 10.0)] * 5), line([(20.0, 20.0)] * 5)
        both = one + replace(two, ratios=(), seconds=())
        assert both.ratios == one.ratios
        assert both.ours[8] == Outcome((10.0, 10.0, 20.0, 20.0), (0.5,) * 4, 4.0)
        assert len(both.published.psnr) == len(both.published.way[0]) == 4


def test_its_images_are_fixed(tmp_path):
    images = tmp_path / "images.npz"
    images.touch()
    with pytest.raises(BadInput, match="whose images are fixed"):
        reconstruction.run(Options(repeats=2, data=images))


@pytest.mark.slow
@pytest.mark.parametrize("family", [replace(NARROW, width=8), TRAINED], ids=["many", "one"])
def test_a_line_of_the_comparison_with_breaching(tmp_path, monkeypatch, family):
    if find_spec("breaching") is None:
        pytest.skip("breaching is not installed: pip install fedlab-privacy[bench]")
    source = real_images.npz("cifar10", tmp_path, "--train", "256", "--test", "4")
    monkeypatch.setattr(reconstruction, "BLOCKS", 1)
    monkeypatch.setattr(reconstruction, "TIMED", 2)
    monkeypatch.setattr(victims, "TRAINING_EPOCHS", 1)
    setting = Setting("small", family, (0, 1, 2), 16)
    parts = [
        reconstruction.measured(setting, str(source), places, "cpu") for places in setting.parts()
    ]
    found = reduce(add, parts)
    assert len(found.ratios) == len(found.seconds) == 1
    assert len(found.published.psnr) == len(found.tuned.psnr) == 3
    assert set(found.ours) == set(SHARES)
    assert all(len(outcome.psnr) == 3 for outcome in found.ours.values())
    assert 0 < found.published.settled <= 1
    assert found.published.way[-1] == pytest.approx(found.published.psnr)
    assert found.published.seconds > 0
    assert found.ours[1].seconds > found.ours[16].seconds > 0
    assert (found.accuracy is None) == (family is not TRAINED)
    report = Report("x", {}, reconstruction._figures(found), reconstruction._claims(found))
    assert len(report.claims) == 4
