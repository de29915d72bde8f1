"""DP-SGD in a client's pipeline: its sampler, its charge and its settings."""

import math
from dataclasses import replace

import pytest
import torch

from fedlab.data.shard import Shard
from fedlab.defenses.adaptive_clipping import Quantile
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.defenses.pipeline import poisson
from fedlab.defenses.private_gradient import PrivateGradient
from fedlab.models import build
from fedlab.privacy.release import PrivacyRelease
from tests.defenses.contexts import context, plain_pipeline, seeded
from tests.defenses.private import batch, flat


def test_images_join_poisson_batches_independently():
    n, rate, steps = 50, 0.3, 4000
    batches = list(poisson(n, rate=rate, steps=steps, generator=seeded())())
    sizes = torch.tensor([float(len(b)) for b in batches])
    assert len(batches) == steps
    spread = math.sqrt(n * rate * (1 - rate))
    assert float(sizes.mean()) == pytest.approx(n * rate, abs=4 * spread / math.sqrt(steps))
    assert float(sizes.var()) == pytest.approx(spread**2, rel=0.1)
    together = torch.cat(batches).bincount(minlength=n) / steps
    assert float((together - rate).abs().max()) < 5 * math.sqrt(rate * (1 - rate) / steps)
    assert all(len(b.unique()) == len(b) for b in batches)


def test_poisson_batch_can_be_empty():
    assert any(len(b) == 0 for b in poisson(3, rate=0.1, steps=50, generator=seeded())())


def around(model, *, is_poisson=True, n=20):
    shard = Shard(torch.zeros(n, 1, 8, 8, dtype=torch.uint8), torch.zeros(n).long(), 10)
    return context(model, shard, round=3, poisson=is_poisson)


@pytest.mark.parametrize(("is_poisson", "rate"), [(True, 0.25), (False, 1.0)])
def test_charge_has_the_rate_of_the_sampler(is_poisson, rate):
    model = build("convnet", shape=(1, 8, 8), classes=10, width=4)
    setting = around(model, is_poisson=is_poisson)
    plain = plain_pipeline(model, 20, batches=4, records=20)
    settings = DPSGD(noise_multiplier=1.5, clipping_norm=0.3)
    pipeline = settings.wrap(plain, setting)
    (spent,) = pipeline.planned
    assert (spent.mechanism, spent.round, spent.steps) == ("dp-sgd", 3, 4)
    assert (spent.noise_multiplier, spent.clipping_norm) == (1.5, 0.3)
    assert spent.sample_rate == rate
    assert len(list(pipeline.sampler())) == (4 if is_poisson else 1)
    for close in pipeline.close:
        close()


@pytest.mark.parametrize("noiseless", [False, True])
def test_only_a_noiseless_replay_has_no_noise(noiseless):
    model = build("convnet", shape=(1, 8, 8), classes=10, width=4)
    plain = plain_pipeline(model, 20)
    setting = replace(around(model), noiseless=noiseless)
    pipeline = DPSGD(noise_multiplier=2.0, clipping_norm=0.3).wrap(plain, setting)
    images, labels = batch()
    pipeline.gradient(images[:0], labels[:0])
    drawn = flat(model)
    for close in pipeline.close:
        close()
    # The deviation is twice the norm over the expected batch size of five.
    assert float(drawn.std()) == pytest.approx(0.0 if noiseless else 2.0 * 0.3 / 5, rel=0.15)
    assert pipeline.planned[0].noise_multiplier == 2.0


def carried_out(monkeypatch, settings, *, history=(), images=20):
    """Arguments of ``PrivateGradient``, planned cost, and charge after one batch."""
    asked = {}
    made = PrivateGradient.__init__

    def noted(self, *args, **given):
        asked.update(given)
        made(self, *args, **given)

    monkeypatch.setattr(PrivateGradient, "__init__", noted)
    model = build("convnet", shape=(1, 8, 8), classes=10, width=4)
    plain = plain_pipeline(model, images)
    setting = replace(around(model, n=images), history=history)
    pipeline = settings.wrap(plain, setting)
    pipeline.gradient(*batch())
    (charge,) = (each() for each in pipeline.charges)
    for close in pipeline.close:
        close()
    return asked, pipeline.planned[0], charge


def test_settings_reach_the_private_gradient(monkeypatch):
    settings = DPSGD(clipping="per-layer", per_example="ew", memory=0.05, clipping_norm=0.3)
    asked, planned, charge = carried_out(monkeypatch, settings)
    assert (asked["clipping"], asked["mode"], asked["clipping_norm"]) == ("per-layer", "ew", 0.3)
    parameters = sum(
        p.numel() for p in build("convnet", shape=(1, 8, 8), classes=10, width=4).parameters()
    )
    assert asked["at_once"] == int(0.05 * 2**20 / (4 * parameters)) > 1
    assert not asked["secure"]
    assert charge == planned


def test_secure_noise_is_independent_of_the_seed(monkeypatch):
    for secure in (True, False):
        asked, _, _ = carried_out(monkeypatch, DPSGD(secure_noise=secure))
        seed = asked["generator"].initial_seed()
        assert (seed == 0) is not secure
        assert asked["secure"] is secure


ADAPTIVE = DPSGD(clipping="adaptive", clipping_norm=0.3, noise_multiplier=0.5, quantile=0.7)


def test_charge_has_adaptive_norm_before_and_after(monkeypatch):
    asked, planned, charge = carried_out(monkeypatch, ADAPTIVE)
    # A twentieth of the batch of 5 is less than the noise multiplier requires.
    assert asked["clipping"] == Quantile(target=0.7, lr=0.2, noise=0.5)
    assert (planned.clipping_norm, planned.next_clipping_norm) == (0.3, None)
    assert charge == replace(planned, next_clipping_norm=charge.next_clipping_norm)
    assert charge.next_clipping_norm not in (None, 0.3)
    assert charge.noise_multiplier == 0.5


def test_adaptive_norm_continues_from_the_history(monkeypatch):
    before = PrivacyRelease(1, 0, "dp-sgd", 0.3, 0.123, 0.5, 0.25, 1)
    open_round = PrivacyRelease(2, 1, "none")
    asked, planned, _ = carried_out(monkeypatch, ADAPTIVE, history=(before, open_round))
    assert asked["clipping_norm"] == planned.clipping_norm == 0.123
    flat_settings = ADAPTIVE.model_copy(update={"clipping": "flat"})
    asked, _, charge = carried_out(monkeypatch, flat_settings, history=(before, open_round))
    assert asked["clipping_norm"] == 0.3
    assert charge.next_clipping_norm is None
