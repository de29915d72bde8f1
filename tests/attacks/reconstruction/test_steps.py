"""Step rules, schedules and starts, each against what it promises."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks.reconstruction.components import INITIALISATIONS, SCHEDULES
from attacks.reconstruction.presets import PRESETS, AttackSettings
from attacks.reconstruction.schedules import milestones
from attacks.reconstruction.steps import step_rule


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def moved_by(gradients, *, steps=None, **options):
    """Where an image at 0 is after steps along given gradients."""
    image = torch.zeros(1, 1, 2, 2, requires_grad=True)
    rule = step_rule([image], AttackSettings(**options), generator=seeded())
    places = []
    for iteration, gradient in enumerate(gradients):

        def closure(gradient=gradient):
            image.grad = gradient.clone()
            return torch.zeros(())

        rule.prepare(iteration)
        rule.move(closure)
        places.append(image.detach().clone())
    return places


class TestAdam:
    def test_first_step_has_the_size_of_lr(self):
        gradient = torch.tensor([[[[1e-4, -5.0], [300.0, -1e-3]]]])
        (place,) = moved_by([gradient], sign="hard", lr=0.1, iterations=100)
        torch.testing.assert_close(place, torch.tensor([[[[-0.1, 0.1], [-0.1, 0.1]]]]))

    def test_unsigned_it_is_torchs_adam(self):
        gradients = [torch.randn(1, 1, 2, 2, generator=seeded(seed)) for seed in range(5)]
        places = moved_by(gradients, sign="none", schedule="constant", betas=(0.8, 0.99))
        reference = torch.zeros(1, 1, 2, 2, requires_grad=True)
        adam = torch.optim.Adam([reference], lr=0.1, betas=(0.8, 0.99))
        for gradient in gradients:
            reference.grad = gradient.clone()
            adam.step()
        assert torch.equal(places[-1], reference)

    def test_soft_sign_goes_from_sign_to_linear(self):
        gradients = [torch.tensor([[[[0.5, -3.0], [0.1, 9.0]]]])] * 10
        options = {"sign": "soft", "schedule": "constant", "iterations": 10, "betas": (0.0, 0.0)}
        # Without momentum Adam divides by the size itself, so look at what it is given.
        seen = []
        image = torch.zeros(1, 1, 2, 2, requires_grad=True)
        rule = step_rule([image], AttackSettings(**options), generator=seeded())
        for iteration, gradient in enumerate(gradients):

            def closure(gradient=gradient):
                image.grad = gradient.clone()
                return torch.zeros(())

            rule.prepare(iteration)
            rule.move(closure)
            seen.append(image.grad.clone())
        torch.testing.assert_close(seen[0], gradients[0].tanh())
        torch.testing.assert_close(seen[9], (0.1 * gradients[0]).tanh() / 0.1)

    def test_langevin_noise_has_its_size_and_seed(self):
        image = torch.zeros(1, 1, 100, 100, requires_grad=True)
        rule = step_rule(
            [image], AttackSettings(langevin=0.5, lr=0.2, sign="none"), generator=seeded(1)
        )

        def closure():
            image.grad = torch.zeros_like(image)
            return torch.zeros(())

        rule.prepare(0)
        rule.move(closure)
        assert float(image.grad.std()) == pytest.approx(0.1, rel=0.05)
        assert torch.equal(image.grad, 0.1 * torch.randn(image.shape, generator=seeded(1)))

    def test_smoothing_divides_an_amplitude_by_its_frequency(self):
        image = torch.zeros(1, 1, 8, 8, requires_grad=True)
        rule = step_rule([image], AttackSettings(smoothing=1.0, sign="none"), generator=seeded())
        place = 2 * math.pi * torch.arange(8) / 8
        waves = {times: (times * place).cos().expand(1, 1, 8, 8) for times in (0, 1, 2, 3)}

        def closure():
            image.grad = sum(waves.values())
            return torch.zeros(())

        rule.prepare(0)
        rule.move(closure)
        smooth = waves[0] + waves[1] + waves[2] / 2 + waves[3] / 3
        torch.testing.assert_close(image.grad, smooth)

    def test_chroma_scales_the_differences_between_channels(self):
        image = torch.zeros(1, 3, 1, 1, requires_grad=True)
        rule = step_rule([image], AttackSettings(chroma=0.25, sign="none"), generator=seeded())

        def closure():
            image.grad = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1)
            return torch.zeros(())

        rule.prepare(0)
        rule.move(closure)
        torch.testing.assert_close(image.grad.flatten(), torch.tensor([2.5, 2.75, 3.75]))

    def test_step_size_follows_warmup_and_schedule(self):
        places = moved_by(
            [torch.ones(1, 1, 2, 2)] * 20, warmup=4, schedule="cosine", iterations=20, lr=1.0
        )
        sizes = [
            float((before - after).mean())
            for before, after in zip([torch.zeros(1), *places], places, strict=False)
        ]
        expected = [min(1, (i + 1) / 4) * 0.5 * (1 + math.cos(math.pi * i / 20)) for i in range(20)]
        assert sizes == pytest.approx(expected, rel=1e-4)


def test_lbfgs_finds_the_minimum_of_a_bowl():
    image = torch.ones(1, 1, 2, 2, requires_grad=True)
    centre = torch.tensor([[[[1.0, -2.0], [3.0, 0.5]]]])
    rule = step_rule([image], AttackSettings(optimiser="l-bfgs", lr=1.0), generator=seeded())

    def closure():
        image.grad = None
        cost = (image - centre).square().sum()
        cost.backward()
        return cost.detach()

    rule.prepare(0)
    rule.move(closure)
    torch.testing.assert_close(image.detach(), centre, atol=1e-4, rtol=0)


class TestSchedules:
    def test_the_papers_milestones(self):
        assert milestones(24_000) == [8998, 14999, 21015]
        # At 3/8, 5/8 and 7/8 of 100 iterations, as the authors round them.
        assert milestones(100) == [37, 62, 87]
        step = SCHEDULES["step"]
        for iteration, expected in ((0, 1), (36, 1), (37, 0.1), (62, 0.01), (99, 1e-3)):
            assert step(iteration, 100) == pytest.approx(expected)

    @given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 500), st.floats(0, 1))
    def test_they_begin_at_one_and_never_rise(self, name, iterations, share):
        schedule, place = SCHEDULES[name], share * iterations
        assert schedule(0, iterations) == 1 or (name == "step" and iterations < 3)
        later = min(place + 0.5, iterations)
        assert 0 <= schedule(later, iterations) <= schedule(place, iterations) + 1e-12


class TestStarts:
    @pytest.mark.parametrize("name", INITIALISATIONS)
    def test_shape_and_repeatability(self, name):
        shape = (2, 3, 9, 14)
        one, same = (INITIALISATIONS[name](shape, seeded(3)) for _ in range(2))
        assert one.shape == shape
        assert torch.equal(one, same)

    def test_what_they_look_like(self):
        shape = (1, 3, 64, 64)
        assert float(INITIALISATIONS["normal"](shape, seeded()).std()) == pytest.approx(1, rel=0.05)
        assert float(INITIALISATIONS["uniform"](shape, seeded()).abs().max()) <= 1
        assert not INITIALISATIONS["grey"](shape, seeded()).any()
        pattern = INITIALISATIONS["pattern"](shape, seeded())
        assert torch.equal(pattern[..., 4:, 4:], pattern[..., :-4, :-4])
        assert not torch.equal(pattern[..., 1:], pattern[..., :-1])


class TestPresets:
    def test_the_papers_settings(self):
        attack = PRESETS["inverting-gradients"]
        assert (attack.objective, attack.sign, attack.boxed) == ("cosine", "hard", True)
        assert (attack.iterations, attack.lr, attack.tv) == (4_800, 0.1, 1e-4)
        assert (attack.schedule, attack.initialisation) == ("step", "normal")
        assert "2003.14053" in attack.source

    def test_every_preset_says_where_it_comes_from(self):
        expected = {"inverting-gradients", "dlg", "idlg", "see-through-gradients", "modern"}
        assert expected | {"fedavg", "analytic"} <= set(PRESETS)
        assert all(preset.source for preset in PRESETS.values())

    @pytest.mark.parametrize(
        "wrong",
        [{"iterations": 0}, {"restarts": 0}, {"lr": 0.0}, {"tv": -1.0}, {"match": 0.0}],
    )
    def test_numbers_out_of_range(self, wrong):
        with pytest.raises(ValueError, match="at least"):
            AttackSettings(**wrong)

    def test_features_need_labels(self):
        with pytest.raises(ValueError, match="cannot be joint"):
            AttackSettings(label_rule="joint", features=0.1)
