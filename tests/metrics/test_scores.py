"""Scores of a reconstruction by anybody who has the true images."""

import math

import pytest
import torch

from attacks.reconstruction import AttackSettings, Reconstruction
from fedlab import score_images
from fedlab.metrics.images import psnr
from fedlab.metrics.similarity import ssim


def images(count, seed=0):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def found(rebuilt, labels):
    return Reconstruction(rebuilt, labels, False, 0.0, torch.zeros(1), 0, 1.0, AttackSettings())


TRUE = images(3)
NEAR = (TRUE + 0.1 * images(3, seed=1)).clamp(0, 1)
LABELS = torch.tensor([4, 5, 6])


def test_images_are_paired_and_scored():
    turned = torch.tensor([2, 0, 1])
    scores = score_images(found(NEAR[turned], LABELS[turned]), TRUE, labels=LABELS)
    assert torch.equal(scores.rebuilt, NEAR)
    assert [score.psnr for score in scores.images] == psnr(TRUE, NEAR).tolist()
    assert [score.ssim for score in scores.images] == ssim(TRUE, NEAR).tolist()
    assert all(score.label_correct for score in scores.images)
    assert scores.table()["image"].tolist() == [0, 1, 2]


def test_uint8_images_and_soft_or_unknown_labels():
    bytes_ = (TRUE * 255).round().to(torch.uint8)
    soft = torch.nn.functional.one_hot(LABELS, 10).float()
    plain = score_images(found(NEAR, LABELS), bytes_.float() / 255)
    scores = score_images(found(NEAR, soft), bytes_)
    assert scores.table().equals(plain.table())
    assert scores.images[0].label_correct is None
    wrong = score_images(found(NEAR, soft), bytes_, labels=[4, 4, 6])
    assert [score.label_correct for score in wrong.images] == [True, False, True]


def test_what_nothing_was_rebuilt_of_has_no_score():
    scores = score_images(found(NEAR[:2], LABELS[:2]), TRUE, labels=LABELS).images
    assert math.isnan(scores[2].psnr)
    assert scores[2].label_correct is False
    assert scores[1].psnr == float(psnr(TRUE, NEAR)[1])


def test_chance_is_the_best_public_guess():
    public = images(20, seed=2), torch.arange(20) % 2 + 4
    known = score_images(found(NEAR, LABELS), TRUE, labels=LABELS, public=public).images
    for score in known:
        guesses = score.chance_grey, score.chance_class_mean, score.chance_nearest
        assert score.chance_psnr == max(guesses)
    assert [score.pool for score in known] == [21] * 3


def test_without_public_images_nothing_is_concluded():
    exact = score_images(found(TRUE, LABELS), TRUE, labels=LABELS).images
    assert {score.verdict for score in exact} == {"inconclusive"}
    assert min(score.aligned_psnr for score in exact) > 60


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": [1]}, "1 labels were given for 3 images"),
    ],
)
def test_what_does_not_fit(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        score_images(found(NEAR, LABELS), TRUE, **options)
    with pytest.raises(ValueError, match="cannot be compared"):
        score_images(found(NEAR, LABELS), images(3)[..., :7])
