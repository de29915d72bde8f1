import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from fedlab.evaluation.model import evaluate, success_rate


class ByBrightness(nn.Module):
    """Predicts the class whose number is the image's first pixel."""

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        return functional.one_hot(x[:, 0, 0, 0].long(), 10).float() * 5


def coded(classes: list[int]) -> Tensor:
    images = torch.zeros(len(classes), 1, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(classes)
    return images


def as_float(images: Tensor) -> Tensor:
    return images.float()


def test_accuracy_and_loss_by_hand() -> None:
    images = coded([0, 1, 2, 3, 4])
    labels = torch.tensor([0, 1, 2, 0, 0])
    expected = functional.cross_entropy(functional.one_hot(torch.arange(5), 10).float() * 5, labels)
    for batch in (1, 2, 1024):
        score = evaluate(ByBrightness(), images, labels, as_float, batch=batch)
        assert score.accuracy == pytest.approx(0.6)
        assert score.loss == pytest.approx(expected.item(), abs=1e-6)
    empty = evaluate(ByBrightness(), images[:0], labels[:0], as_float)
    assert math.isnan(empty.accuracy)
    assert math.isnan(empty.loss)


def test_modes_are_restored_after_an_error() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10))
    model.train()
    model[1].eval()
    digits = load_digits()
    images = torch.tensor(digits.images).to(torch.uint8).unsqueeze(1)
    labels = torch.tensor(digits.target)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, images, labels, as_float)
    with pytest.raises(RuntimeError):
        evaluate(model, images[:, :, :4], labels, as_float)
    assert [module.training for module in model] == [True, False, True, True]
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_success_counts_the_wanted_label() -> None:
    images, wanted = coded([7, 7, 1, 2]), torch.tensor([7, 1, 1, 2])
    for batch in (1, 1024):
        assert success_rate(ByBrightness(), images, wanted, as_float, batch=batch) == 0.75
    assert math.isnan(success_rate(ByBrightness(), images[:0], wanted[:0], as_float))


def test_what_classes_are_taken_for() -> None:
    images, labels = coded([1, 1, 0, 1, 2]), torch.tensor([0, 0, 0, 1, 2])
    score = evaluate(ByBrightness(), images, labels, as_float)
    assert score.confusion.shape == (10, 10)
    assert score.confusion[0].tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 0]
    assert score.taken_for({(0, 1)}) == pytest.approx(2 / 3)
    assert score.taken_for({(0, 1), (2, 1)}) == 0.5  # over images, not over classes
    assert score.taken_for({(2, 1)}) == 0
    assert math.isnan(score.taken_for({(7, 1)}))  # no image of class 7
    assert math.isnan(score.taken_for(set()))
    empty = evaluate(ByBrightness(), images[:0], labels[:0], as_float)
    assert math.isnan(empty.taken_for({(3, 1)}))


def test_the_worst_class_counts_its_own_images_only() -> None:
    images, labels = coded([0, 0, 1, 2, 2, 5]), torch.tensor([0, 0, 1, 2, 5, 5])
    # Class 2 is right once of once, class 5 once of twice; 3 and 4 have no image.
    assert evaluate(ByBrightness(), images, labels, as_float).worst_recall == 0.5
    assert math.isnan(evaluate(ByBrightness(), images[:0], labels[:0], as_float).worst_recall)
