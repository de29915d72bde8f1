"""Objective, prior, step rule and label rules, each against an independent computation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from attacks.reconstruction.labels import infer_labels
from attacks.reconstruction.objectives import cosine
from attacks.reconstruction.presets import PRESETS, Attack
from attacks.reconstruction.priors import total_variation
from attacks.reconstruction.steps import SignedAdam, milestones


def tensors(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a": scale * torch.randn(3, 2, generator=generator),
        "b": scale * torch.randn(4, generator=generator),
    }


class TestCosine:
    def test_it_is_one_minus_the_cosine_of_all_tensors_as_one_vector(self):
        target, other = tensors(0), tensors(1)
        flat = [torch.cat([t.flatten() for t in group.values()]) for group in (target, other)]
        expected = 1 - functional.cosine_similarity(*flat, dim=0)
        torch.testing.assert_close(cosine(target)(other), expected)

    def test_scale_does_not_matter_and_a_match_costs_nothing(self):
        target = tensors(0)
        cost = cosine(target)({name: 1e-3 * value for name, value in target.items()})
        assert float(cost) == pytest.approx(0, abs=1e-6)

    def test_a_tensor_counts_by_its_own_size_and_not_as_one_of_many(self):
        """Cosines averaged over tensors would be 0.5 off here."""
        target = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
        other = {"a": torch.tensor([0.0, 3.0]), "b": torch.tensor([4.0])}
        assert float(cosine(target)(other)) == pytest.approx(1 - 16 / 25)

    @pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
    def test_a_payload_without_direction_is_refused(self, value):
        with pytest.raises(ValueError, match="no direction to match"):
            cosine({"a": torch.full((3,), value)})


def test_total_variation_is_that_of_a_plain_loop():
    images = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    x = images.numpy()
    right = [abs(x[..., j + 1] - x[..., j]) for j in range(3)]
    down = [abs(x[..., i + 1, :] - x[..., i, :]) for i in range(4)]
    expected = np.mean(right) + np.mean(down)
    assert float(total_variation(images)) == pytest.approx(expected, rel=1e-6)
    assert float(total_variation(torch.full((1, 1, 4, 4), 0.3))) == 0


class TestSteps:
    @staticmethod
    def step(**options):
        images = torch.zeros(1, 1, 2, 2, requires_grad=True)
        settings = {"lr": 0.1, "iterations": 100, "signed": True, "low": None, "high": None}
        return images, SignedAdam(images, **(settings | options))

    def test_the_first_step_is_the_size_of_the_learning_rate_against_the_sign(self):
        images, step = self.step()
        images.grad = torch.tensor([[[[1e-4, -5.0], [300.0, -1e-3]]]])
        step.step()
        expected = torch.tensor([[[[-0.1, 0.1], [-0.1, 0.1]]]])
        torch.testing.assert_close(images.detach(), expected)

    def test_unsigned_it_is_torchs_adam(self):
        images, step = self.step(signed=False, iterations=10_000)
        reference = torch.zeros(1, 1, 2, 2, requires_grad=True)
        adam = torch.optim.Adam([reference], lr=0.1)
        for seed in range(5):
            gradient = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
            images.grad, reference.grad = gradient.clone(), gradient.clone()
            step.step()
            adam.step()
        assert torch.equal(images, reference)

    def test_the_box_holds(self):
        images, step = self.step(low=torch.tensor(-0.25), high=torch.tensor(0.05), lr=10.0)
        images.grad = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])
        step.step()
        expected = torch.tensor([[[[-0.25, 0.05], [-0.25, 0.05]]]])
        torch.testing.assert_close(images.detach(), expected)

    def test_each_channel_has_its_own_box(self):
        low, high = (torch.tensor(ends).view(1, -1, 1, 1) for ends in ([-1.0, -2.0], [1.0, 2.0]))
        images = torch.zeros(3, 2, 2, 2, requires_grad=True)
        step = SignedAdam(images, lr=9.0, iterations=9, signed=True, low=low, high=high)
        images.grad = torch.ones_like(images)
        step.step()
        assert torch.equal(images.detach(), low.expand(3, 2, 2, 2))

    def test_the_step_falls_to_a_tenth_three_times(self):
        images, step = self.step()
        sizes = []
        for _ in range(100):
            before = images.detach().clone()
            images.grad = torch.ones(1, 1, 2, 2)
            step.step()
            sizes.append(float((before - images.detach()).abs().max()))
        # At 3/8, 5/8 and 7/8 of 100 iterations, as the authors round them.
        assert milestones(100) == [37, 62, 87]
        for index, expected in ((0, 0.1), (36, 0.1), (38, 0.01), (63, 1e-3), (99, 1e-4)):
            assert sizes[index] == pytest.approx(expected, rel=0.02), index


class TestLabels:
    @staticmethod
    def batch(labels, *, bias=True, seed=0, alike=False):
        torch.manual_seed(seed)
        body = [nn.Flatten(), nn.Linear(16, 12), nn.ReLU()]
        model = nn.Sequential(*body, nn.Linear(12, 5, bias=bias))
        images = torch.randn(1 if alike else len(labels), 1, 4, 4).expand(len(labels), -1, -1, -1)
        logits = model(images)
        functional.cross_entropy(logits, torch.tensor(labels)).backward()
        mean = torch.softmax(logits, 1).mean(0).detach()
        return {name: p.grad for name, p in model.named_parameters()}, mean

    @pytest.mark.parametrize("label", range(5))
    @pytest.mark.parametrize("bias", [True, False])
    def test_one_image(self, label, bias):
        gradient, mean = self.batch([label], bias=bias, seed=label)
        assert infer_labels(gradient, num_images=1, probabilities=mean).tolist() == [label]

    @pytest.mark.parametrize(
        "labels", [[0, 1], [2, 2], [0, 0, 0, 4], [3, 1, 4, 1, 0, 2], [1] * 9 + [2] * 7]
    )
    def test_a_batch_is_exact_once_the_mean_output_is_known(self, labels):
        gradient, mean = self.batch(labels)
        found = infer_labels(gradient, num_images=len(labels), probabilities=mean)
        assert found.tolist() == sorted(labels)

    def test_a_near_uniform_network_needs_no_more_than_uniform_probabilities(self):
        labels = [0, 0, 3, 4]
        gradient, _ = self.batch(labels)
        found = infer_labels(gradient, num_images=4, probabilities=torch.full((5,), 0.2))
        assert found.tolist() == labels

    @pytest.mark.parametrize("labels", [[0, 3], [1, 1, 4, 4], [0, 2, 2, 2]])
    def test_without_a_bias_the_sizes_of_the_rows_tell_a_batch(self, labels):
        gradient, mean = self.batch(labels, bias=False, alike=True)
        found = infer_labels(gradient, num_images=len(labels), probabilities=mean)
        assert found.tolist() == labels

    @settings(deadline=None, max_examples=60)
    @given(
        signal=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=8),
        images=st.integers(2, 40),
    )
    def test_a_batch_gets_as_many_labels_as_images_whatever_was_sent(self, signal, images):
        signal[0] = -0.5
        classes = len(signal)
        found = infer_labels(
            {"bias": torch.tensor(signal)},
            num_images=images,
            probabilities=torch.full((classes,), 1 / classes),
        )
        assert len(found) == images
        assert found.tolist() == sorted(found.tolist())
        assert 0 <= int(found.min()) <= int(found.max()) < classes

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("images", [1, 2])
    def test_what_is_no_classifier_of_these_classes(self, bias, images):
        gradient, _ = self.batch([1] * images, bias=bias)
        with pytest.raises(ValueError, match="has 5 outputs, not 7"):
            infer_labels(gradient, num_images=images, probabilities=torch.full((7,), 1 / 7))

    def test_a_batch_without_a_negative_class(self):
        with pytest.raises(ValueError, match="no class has a negative gradient"):
            infer_labels(
                {"bias": torch.ones(3)}, num_images=2, probabilities=torch.full((3,), 1 / 3)
            )


class TestPresets:
    def test_the_papers_settings(self):
        attack = PRESETS["inverting-gradients"]
        assert (attack.objective, attack.signed, attack.boxed) == ("cosine", True, True)
        assert (attack.iterations, attack.lr, attack.tv) == (4_800, 0.1, 1e-4)
        assert "2003.14053" in attack.source

    @pytest.mark.parametrize(
        "wrong", [{"iterations": 0}, {"restarts": 0}, {"lr": 0.0}, {"tv": -1.0}]
    )
    def test_numbers_out_of_range(self, wrong):
        with pytest.raises(ValueError, match="must be at least 1"):
            Attack(**wrong)
