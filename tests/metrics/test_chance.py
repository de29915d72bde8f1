import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from fedlab.metrics.chance import baselines, class_means
from fedlab.metrics.images import psnr


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    loaded = load_digits()
    raw = (torch.tensor(loaded.images) * 255 / 16).round().to(torch.uint8).unsqueeze(1)
    return raw, torch.tensor(loaded.target)


def test_each_guess_against_its_own_definition(digits: tuple[Tensor, Tensor]) -> None:
    raw, labels = digits
    pool, references, marks = raw[:200], raw[1000:], labels[1000:]
    own = torch.tensor([3, 50, 111])
    truth = pool[own].float() / 255
    found = baselines(
        truth, labels[own], reference_images=references, reference_labels=marks, pool=pool, own=own
    )
    assert torch.equal(found.grey, psnr(truth, torch.full_like(truth, 0.5)))
    for index, place in enumerate(own.tolist()):
        one = truth[index : index + 1]
        mean = (references[marks == labels[place]].double() / 255).mean(0, keepdim=True)
        assert found.class_mean[index].item() == pytest.approx(psnr(one, mean).item(), abs=1e-4)
        others = torch.cat([pool[:place], pool[place + 1 :]]).float() / 255
        scores = psnr(one.expand_as(others), others)
        assert found.nearest_other[index].item() == pytest.approx(scores.max().item(), abs=1e-6)
    columns = torch.stack([found.grey, found.class_mean, found.nearest_other])
    assert torch.equal(found.best, columns.amax(0))


def test_only_the_image_itself_is_left_out(digits: tuple[Tensor, Tensor]) -> None:
    raw, labels = digits
    pool = torch.cat([raw[:20], raw[:1]])
    truth = raw[:2].float() / 255
    found = baselines(
        truth,
        labels[:2],
        reference_images=raw,
        reference_labels=labels,
        pool=pool,
        own=torch.tensor([0, 1]),
    )
    assert found.nearest_other[0].item() == 100.0
    assert found.nearest_other[1].item() < 40.0


def test_without_another_image_the_rest_still_count(digits: tuple[Tensor, Tensor]) -> None:
    raw, labels = digits
    for pool, own in ((raw[:1], torch.tensor([0])), (raw[:0], None)):
        found = baselines(
            raw[:1].float() / 255,
            labels[:1],
            reference_images=raw,
            reference_labels=labels,
            pool=pool,
            own=own,
        )
        assert found.nearest_other.item() == -torch.inf
        assert found.best.isfinite().all()


def test_chance_of_mixtures_is_mixed_class_means(digits: tuple[Tensor, Tensor]) -> None:
    raw, labels = digits
    means = class_means(raw, labels, classes=10)
    soft = torch.zeros(1, 10)
    soft[0, 2], soft[0, 7] = 0.25, 0.75
    found = baselines(
        0.25 * means[2:3] + 0.75 * means[7:8],
        soft,
        reference_images=raw,
        reference_labels=labels,
        pool=raw[:10],
        own=None,
    )
    assert found.class_mean.item() > 99.0


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
