import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from fedlab.evaluation.model import attack_success_rate, evaluate, flip_success_rate


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


def test_modes_of_all_modules_come_back_even_after_an_error() -> None:
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


def test_attack_success_leaves_the_target_class_out() -> None:
    images, labels = coded([7, 7, 1, 2]), torch.tensor([7, 7, 1, 2])

    def trigger(raw: Tensor) -> Tensor:
        assert raw.dtype == torch.uint8
        stamped = raw.clone()
        stamped[raw[:, 0, 0, 0] == 1] = 7
        return stamped

    rate = attack_success_rate(
        ByBrightness(), images, labels, as_float, trigger=trigger, target=7, batch=1
    )
    assert rate == 0.5
    assert images[2, 0, 0, 0] == 1
    nothing = attack_success_rate(
        ByBrightness(), images[:2], labels[:2], as_float, trigger=trigger, target=7
    )
    assert math.isnan(nothing)


def test_flip_success_counts_changed_labels_only() -> None:
    images, labels = coded([1, 9, 9, 3]), torch.tensor([1, 2, 2, 3])
    wrong = torch.tensor([1, 9, 8, 3])
    assert flip_success_rate(ByBrightness(), images, labels, as_float, wrong=wrong) == 0.5
    assert math.isnan(flip_success_rate(ByBrightness(), images, labels, as_float, wrong=labels))
