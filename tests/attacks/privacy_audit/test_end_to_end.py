"""Tests of the privacy audit of a real client, with and without a bug."""

import pytest
import torch

from attacks.privacy_audit.bounds import auc
from tests.attacks.privacy_audit.clients import audited, clothes

SEEDS = range(5)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return clothes(tmp_path_factory.mktemp("audit"))


@pytest.mark.parametrize("seed", SEEDS)
def test_sound_client_bound_is_below_its_ledger(images, seed):
    sound = audited(images, seed=seed)
    assert 1 < sound.epsilon < 1.5
    assert sound.audit().epsilon < sound.epsilon


@pytest.mark.parametrize("seed", SEEDS)
def test_missing_noise_is_detected(images, seed):
    """It clips, and accounts for noise that it never added: all seeds give 3.5 or more."""
    broken = audited(images, seed=seed, noiseless=True)
    assert broken.epsilon < 1.5
    found = broken.audit()
    assert found.epsilon > 3
    assert (found.canaries, found.confidence, found.delta) == (300, 0.95, 1e-5)


@pytest.mark.parametrize("noiseless", [False, True])
def test_200_canaries_detect_with_poisson_batches(images, noiseless):
    """An included canary misses all 16 steps at q = 0.25 with a chance of one percent."""
    client = audited(
        images, seed=1, canaries=200, batch_size=50, noise=3.5, noiseless=noiseless, lr=0.3
    )
    assert 1 < client.epsilon < 1.5
    assert (client.audit().epsilon > client.epsilon) is noiseless


def test_many_real_images_do_not_hide_canaries(images):
    broken = audited(images, seed=0, noiseless=True, ordinary=500)
    assert broken.audit().epsilon > 2


def test_low_noise_is_seen_and_accounted(images):
    """With more epsilon to find, more is found, and still less than there is."""
    found = audited(images, seed=0, noise=0.8)
    assert 1.5 < found.audit().epsilon < found.epsilon
    scores, included = found.scores.scores(), found.included
    assert auc(scores[included], scores[~included]) > 0.85


def test_wrong_coins_are_not_guessed(images):
    """The scores hold nothing but what the client's own coins put there."""
    broken = audited(images, seed=0, noiseless=True)
    others = torch.rand(300, generator=torch.Generator().manual_seed(9)) < 0.5
    assert broken.scores.outcome(others, delta=1e-5, confidence=0.95).epsilon < 0.5
