import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from fedlab.metrics.chance import class_means


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    loaded = load_digits()
    raw = (torch.tensor(loaded.images) * 255 / 16).round().to(torch.uint8).unsqueeze(1)
    return raw, torch.tensor(loaded.target)


def test_absent_class_uses_the_overall_mean(digits: tuple[Tensor, Tensor]) -> None:
    raw, labels = digits
    means = class_means(raw, labels, classes=12)
    everything = (raw.double() / 255).mean(0).float()
    assert torch.allclose(means[11], everything)
    # Classes beyond the last asked for still count for the overall mean.
    assert torch.allclose(
        class_means(raw[labels > 0], labels[labels > 0], classes=1)[0],
        (raw[labels > 0].double() / 255).mean(0).float(),
    )
    with pytest.raises(ValueError, match="at least one reference image"):
        class_means(raw[:0], labels[:0], classes=2)
