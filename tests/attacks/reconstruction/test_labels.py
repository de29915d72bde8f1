"""Label rules against the labels of true gradients, taken from real networks by backward."""

from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from attacks.reconstruction.components import LABEL_RULES
from attacks.reconstruction.labels import apply_rule, infer_labels, joint_start, snap_mixture
from attacks.reconstruction.output_layer import OutputLayer
from fedlab.data.loading import load
from fedlab.models import build

NETWORKS = {"mlp": None, "lenet": None, "convnet": 8, "resnet8": 8}
"""With the width that keeps the tests fast."""

BATCHES = [[0, 1], [2, 2], [0, 0, 0, 4], [3, 1, 4, 1, 0, 2], [7] * 9 + [2] * 7]

DIGITS = load("digits")


def network(name, *, seed=0, head=1.0):
    """An untrained network; with a small ``head`` all its outputs are near uniform."""
    model = build(name, shape=(1, 8, 8), classes=10, width=NETWORKS[name], seed=seed)
    with torch.no_grad():
        for parameter in list(model.parameters())[-2:]:
            parameter.mul_(head)
    return model


def digits(labels, seed=0):
    """A different digit of each wanted class."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(DIGITS.train_labels), generator=generator)
    of_class = {c: order[DIGITS.train_labels[order] == c].tolist() for c in set(labels)}
    return DIGITS.normalise(DIGITS.pixels(DIGITS.train_images[[of_class[c].pop() for c in labels]]))


def sent(model, images, labels):
    """The true gradient, and the true mean output."""
    logits = model(images)
    functional.cross_entropy(logits, labels).backward()
    gradient = {name: p.grad for name, p in model.named_parameters()}
    return gradient, torch.softmax(logits, 1).mean(0).detach()


def overlap(found, labels):
    counts = [torch.bincount(torch.as_tensor(y), minlength=10) for y in (found, labels)]
    return float(torch.minimum(*counts).sum() / len(labels))


def drawn(count, seed):
    return torch.randint(10, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


UNIFORM = torch.full((10,), 0.1)


class TestRealNetworks:
    @pytest.mark.parametrize("rule", ["auto", "idlg"])
    @pytest.mark.parametrize("name", NETWORKS)
    def test_one_image_needs_no_knowledge_of_the_outputs(self, name, rule):
        for label in range(10):
            model = network(name, seed=label)
            gradient, _ = sent(model, digits([label]), torch.tensor([label]))
            no_bias = dict(list(gradient.items())[:-1])
            for part in (gradient, no_bias):
                found = infer_labels(part, num_images=1, probabilities=UNIFORM, rule=rule)
                assert found.tolist() == [label]

    @pytest.mark.parametrize("rule", ["auto", "counts"])
    @pytest.mark.parametrize("labels", BATCHES, ids=str)
    @pytest.mark.parametrize("name", NETWORKS)
    def test_counts_are_exact_with_known_mean_output(self, name, labels, rule):
        gradient, mean = sent(network(name), digits(labels), torch.tensor(labels))
        found = infer_labels(gradient, num_images=len(labels), probabilities=mean, rule=rule)
        assert found.dtype == torch.int64
        assert found.tolist() == sorted(labels)

    @pytest.mark.parametrize("labels", [[4], [9, 0, 3], [8, 1, 6, 2, 7, 5], list(range(10))])
    @pytest.mark.parametrize("name", NETWORKS)
    def test_yin_is_exact_for_labels_that_do_not_repeat(self, name, labels):
        model = network(name, head=0.1)
        gradient, _ = sent(model, digits(labels), torch.tensor(labels))
        found = infer_labels(gradient, num_images=len(labels), probabilities=UNIFORM, rule="yin")
        assert found.tolist() == sorted(labels)

    @pytest.mark.parametrize("name", NETWORKS)
    def test_llg_works_on_an_untrained_network(self, name):
        shares = []
        for seed in range(20):
            labels = drawn(4, seed)
            gradient, _ = sent(network(name, seed=seed), digits(labels), torch.tensor(labels))
            found = infer_labels(gradient, num_images=4, probabilities=UNIFORM, rule="llg")
            assert found.tolist() == sorted(found.tolist())
            shares.append(overlap(found, labels))
        assert sum(shares) / len(shares) >= 0.8  # by chance about 0.3

    @pytest.mark.parametrize("images", [1, 2, 6])
    @pytest.mark.parametrize("name", NETWORKS)
    def test_mixed_is_the_true_sum_of_soft_labels(self, name, images):
        """Mixtures of k = 4 digits, as a DP-InstaHide client trains on them."""
        labels = drawn(4 * images, images)
        inputs = digits(labels).view(images, 4, 1, 8, 8).mean(1)
        soft = functional.one_hot(torch.tensor(labels), 10).float().view(images, 4, 10).mean(1)
        gradient, mean = sent(network(name), inputs, soft)
        found = infer_labels(gradient, num_images=images, probabilities=mean, rule="mixed")
        assert found.dtype == torch.float32
        assert found.shape == (images, 10)
        torch.testing.assert_close(found.sum(0), soft.sum(0), rtol=0, atol=1e-5)
        torch.testing.assert_close(found, found[:1].expand_as(found), rtol=0, atol=0)

    @pytest.mark.parametrize("name", NETWORKS)
    def test_one_mixed_image_is_exact_with_known_k(self, name):
        labels = [3, 8, 3, 5]
        soft = functional.one_hot(torch.tensor(labels), 10).float().mean(0, keepdim=True)
        gradient, _ = sent(network(name, head=0.1), digits(labels).mean(0, keepdim=True), soft)
        guess = infer_labels(gradient, num_images=1, probabilities=UNIFORM, rule="mixed")
        torch.testing.assert_close(snap_mixture(guess, k=4), soft)


class TestCounts:
    @staticmethod
    def batch(labels, *, bias=True, seed=0, alike=False):
        torch.manual_seed(seed)
        body = [nn.Flatten(), nn.Linear(16, 12), nn.ReLU()]
        model = nn.Sequential(*body, nn.Linear(12, 5, bias=bias))
        images = torch.randn(1 if alike else len(labels), 1, 4, 4).expand(len(labels), -1, -1, -1)
        return sent(model, images, torch.tensor(labels))

    def test_uniform_probabilities_suffice_untrained(self):
        labels = [0, 0, 3, 4]
        gradient, _ = self.batch(labels)
        found = infer_labels(gradient, num_images=4, probabilities=torch.full((5,), 0.2))
        assert found.tolist() == labels

    @pytest.mark.parametrize("labels", [[0, 3], [1, 1, 4, 4], [0, 2, 2, 2]])
    def test_row_sizes_reveal_a_batch_without_bias(self, labels):
        gradient, mean = self.batch(labels, bias=False, alike=True)
        found = infer_labels(gradient, num_images=len(labels), probabilities=mean)
        assert found.tolist() == labels

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("images", [1, 2])
    @pytest.mark.parametrize("rule", LABEL_RULES)
    def test_what_is_no_classifier_of_these_classes(self, bias, images, rule):
        gradient, _ = self.batch([1] * images, bias=bias)
        with pytest.raises(ValueError, match="has 5 outputs, not 7"):
            infer_labels(
                gradient, num_images=images, probabilities=torch.full((7,), 1 / 7), rule=rule
            )


def test_yin_looks_at_the_smallest_entry_of_a_row():
    gradient = {"weight": torch.tensor([[-0.5, -0.4], [-1.0, 5.0], [1.0, 1.0]])}
    found = infer_labels(gradient, num_images=1, probabilities=torch.full((3,), 1 / 3), rule="yin")
    assert found.tolist() == [1]


class TestLLG:
    def test_the_steps_of_the_algorithm(self):
        """By hand: m = (1 + 1/3)/4 * -6 = -2, so after each negative class once g is
        (-3, 1, 1), and the two left go to class 0, which then stands at -1.
        """
        gradient = {"weight": torch.tensor([[-5.0, 0.0], [-2.0, 1.0], [0.5, 0.5]])}
        found = infer_labels(
            gradient, num_images=4, probabilities=torch.full((3,), 1 / 3), rule="llg"
        )
        assert found.tolist() == [0, 0, 0, 1]

    def test_llg_subtracts_from_the_taken_class(self):
        """m = (1 + 1/2)/4 * -4.4 = -1.65: after one each g is (-0.75, -0.35), then (0.9, -0.35)."""
        gradient = {"weight": torch.tensor([[-2.4], [-2.0]])}
        found = infer_labels(
            gradient, num_images=4, probabilities=torch.full((2,), 0.5), rule="llg"
        )
        assert found.tolist() == [0, 0, 1, 1]

    def test_the_impact_allows_for_what_true_classes_hide(self):
        """m = -(1 + 1/2)/4 * 5 = -1.875: g (-1.425, 0.175), then (0.45, 0.175) and class 1.

        Without the 1/2 it is -1.25: g (-2.05, -0.45), (-0.8, -0.45) and class 0 again.
        """
        found = infer_labels(
            {"weight": torch.tensor([[-3.3], [-1.7]])},
            num_images=4,
            probabilities=torch.full((2,), 0.5),
            rule="llg",
        )
        assert found.tolist() == [0, 0, 1, 1]

    def test_more_negative_classes_than_images(self):
        gradient = {"weight": -torch.tensor([[1.0], [4.0], [3.0], [2.0]])}
        found = infer_labels(
            gradient, num_images=2, probabilities=torch.full((4,), 0.25), rule="llg"
        )
        assert found.tolist() == [1, 2]


@settings(deadline=None, max_examples=60)
@given(
    signal=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=8),
    images=st.integers(2, 40),
    rule=st.sampled_from(["auto", "counts", "llg"]),
)
def test_batch_gets_as_many_labels_as_images(signal, images, rule):
    signal[0] = -0.5
    classes = len(signal)
    found = infer_labels(
        {"bias": torch.tensor(signal)},
        num_images=images,
        probabilities=torch.full((classes,), 1 / classes),
        rule=rule,
    )
    assert len(found) == images
    assert found.tolist() == sorted(found.tolist())
    assert 0 <= int(found.min()) <= int(found.max()) < classes


@pytest.mark.parametrize(
    ("images", "rule", "message"),
    [
        (2, "idlg", "is for one image, not 2"),
        (4, "yin", "labels that do not repeat"),
        (0, "auto", "no label to infer"),
        (1, "oracle", "none of auto, idlg, counts, .*: oracle"),
    ],
)
def test_what_a_rule_is_not_for(images, rule, message):
    with pytest.raises(ValueError, match=message):
        infer_labels(
            {"last": -torch.ones(3)},
            num_images=images,
            probabilities=torch.full((3,), 1 / 3),
            rule=rule,
        )


NAN = torch.full((3,), torch.nan)
LIKELY = torch.tensor([0.2, 0.7, 0.1])


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("rule", sorted(set(LABEL_RULES) - {"idlg", "yin", "mixed"}))
@pytest.mark.parametrize("sent", [NAN, torch.zeros(3), torch.ones(3)], ids=["nan", "zero", "ones"])
def test_where_nothing_can_be_inferred_labels_are_guessed(sent, rule, images):
    """The former rules raised, and a client that was not attacked flattered its defense."""
    found = infer_labels({"last": sent}, num_images=images, probabilities=LIKELY, rule=rule)
    assert len(found) == images
    if not (images == 1 and rule == "auto" and sent.sum() == 3):  # one image has the smallest
        assert 1 in found.tolist()


@pytest.mark.parametrize("sent", [torch.ones(3), NAN, torch.ones(3, 2)], ids=["ones", "nan", "2d"])
def test_soft_labels_are_guessed_as_the_mean_output(sent):
    found = infer_labels({"last": sent}, num_images=2, probabilities=LIKELY, rule="mixed")
    torch.testing.assert_close(found, LIKELY.expand(2, -1))


def test_a_guess_is_reported_and_other_labels_are_not():
    layer = OutputLayer(torch.ones(3), has_bias=True, weight=None)
    assert apply_rule("counts", layer, 2, LIKELY)[1] == "no class has a negative gradient"
    layer = OutputLayer(torch.tensor([0.5, 0.5, -1.0]), has_bias=True, weight=None)
    assert apply_rule("counts", layer, 2, LIKELY)[1] == ""


class TestPresentClasses:
    """A negative bias gradient proves its class, whatever outputs were expected."""

    SENT: ClassVar = torch.tensor([-0.6, -0.01, 0.3, 0.31])
    OFF: ClassVar = torch.tensor([0.02, 0.0, 0.49, 0.49])

    @pytest.mark.parametrize("rule", ["auto", "counts", "conditional", "llg", "yin", "ilrg"])
    def test_no_rule_drops_a_present_class(self, rule):
        weight = torch.tensor([[-3.0, -3.0], [0.1, -0.1], [-2.0, 3.5], [-1.0, 1.0]])
        layer = OutputLayer(
            self.SENT,
            has_bias=True,
            weight=weight,
            weights=torch.eye(4, 2),
            bias=torch.zeros(4),
        )
        found, _ = apply_rule(rule, layer, 3, self.OFF)
        assert {0, 1} <= set(found.tolist())

    def test_noise_proves_nothing(self):
        layer = OutputLayer(self.SENT, has_bias=True, weight=None, certain=False)
        assert apply_rule("counts", layer, 3, self.OFF)[0].tolist() == [0, 0, 2]
        assert not layer.present(3).any()

    def test_rounding_of_weights_proves_nothing(self):
        layer = OutputLayer(self.SENT, has_bias=True, weight=None, rounding=0.02)
        assert layer.present(3).tolist() == [True, False, False, False]

    def test_more_present_classes_than_images(self):
        layer = OutputLayer(-torch.tensor([0.1, 0.3, 0.2, 0.4]), has_bias=True, weight=None)
        assert layer.present(2).tolist() == [False, True, False, True]


class TestILRG:
    def test_identical_features_within_a_class_are_exact(self):
        """The network takes all images for class 4, so uniform outputs are far off."""
        features, labels = torch.eye(5), torch.tensor([0, 0, 0, 2, 3])
        head = nn.Linear(5, 5)
        with torch.no_grad():
            head.weight.copy_(10 * torch.eye(5) - 10)
            head.weight[4] = 1.0
        functional.cross_entropy(head(features[labels]), labels).backward()
        layer = OutputLayer(
            head.bias.grad,
            has_bias=True,
            weight=head.weight.grad,
            weights=head.weight.detach(),
            bias=head.bias.detach(),
        )
        found, guessed = apply_rule("ilrg", layer, 5, torch.full((5,), 0.2))
        assert found.tolist() == labels.tolist()
        assert not guessed
        assert apply_rule("counts", layer, 5, torch.full((5,), 0.2))[0].tolist() != labels.tolist()


class TestSnapping:
    @settings(deadline=None, max_examples=60)
    @given(
        chosen=st.lists(st.integers(0, 5), min_size=1, max_size=8),
        seed=st.integers(0, 1000),
    )
    def test_a_little_error_is_undone(self, chosen, seed):
        k = len(chosen)
        true = functional.one_hot(torch.tensor(chosen), 6).float().mean(0, keepdim=True)
        # Largest remainders forgive just under 1/(2 k) in each class, shared by what sums to 0.
        error = torch.rand(1, 6, generator=torch.Generator().manual_seed(seed)) * 0.2 / k
        noisy = (true + error - error.mean()).clamp(min=0)
        torch.testing.assert_close(snap_mixture(noisy, k=k), true)

    def test_snap_with_unknown_k_and_k_of_zero(self):
        labels = torch.tensor([[0.3, 0.7]])
        assert torch.equal(snap_mixture(labels, k=None), labels)
        with pytest.raises(ValueError, match="at least one image"):
            snap_mixture(labels, k=0)


def test_a_joint_start_is_normal_and_the_generators():
    start = joint_start(400, 50, torch.Generator().manual_seed(3))
    assert start.shape == (400, 50)
    assert float(start.mean()) == pytest.approx(0, abs=0.03)
    assert float(start.std()) == pytest.approx(1, abs=0.03)
    assert torch.equal(start, joint_start(400, 50, torch.Generator().manual_seed(3)))
