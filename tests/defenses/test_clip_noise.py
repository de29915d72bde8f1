"""Clip-noise: its norm, its noise and its privacy cost."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import RDPAccountant

from fedlab import Federation
from fedlab.defenses.clip_noise import ClipNoise, clipped
from fedlab.privacy.accounts import CLIENT, EXAMPLE
from fedlab.server.captures import Capture
from tests.defenses.contexts import seeded
from tests.defenses.updates import flat, released, tensors, update, wrapped
from tests.federations import finished, small

LEAK = {"role": "leaking", "clients": "0", "batch_size": 4}
EVERYONE = {"name": "clip-noise", "clipping_norm": 0.1, "noise_multiplier": 2.0}


@settings(deadline=None)
@given(parts=st.lists(tensors, min_size=1, max_size=4), norm=st.floats(1e-3, 1e3))
def test_clipping_limits_the_norm_and_keeps_direction(parts, norm):
    before = {str(place): tensor for place, tensor in enumerate(parts)}
    after = clipped(before, norm)
    length, kept = (float(flat(each).double().norm()) for each in (before, after))
    assert kept <= norm * (1 + 1e-6)
    assert kept == pytest.approx(min(length, norm), rel=1e-5)
    expected = flat(before).double() * (min(1.0, norm / length) if length else 1.0)
    torch.testing.assert_close(flat(after).double(), expected, rtol=1e-5, atol=1e-30)


def test_short_update_is_not_clipped():
    short = update(size=1e-4)
    assert torch.equal(flat(clipped(short, 1.0)), flat(short))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_update_that_is_not_finite_becomes_zero(wrong):
    failed = update()
    failed["bias"][3] = wrong
    assert not flat(clipped(failed, 1.0)).any()


def test_update_noise_has_the_set_deviation():
    chosen = ClipNoise(clipping_norm=0.7, noise_multiplier=1.3)
    generator = seeded(3)
    draws = torch.stack(
        [
            flat(released(chosen, sent, noise=generator)) - flat(clipped(sent, 0.7))
            for sent in (update(seed=place, size=10.0 ** (place % 5 - 3)) for place in range(60))
        ]
    )
    count, deviation = draws.numel(), 1.3 * 0.7
    assert float(draws.std()) == pytest.approx(deviation, rel=5 / math.sqrt(count))
    assert abs(float(draws.mean())) < 5 * deviation / math.sqrt(count)
    # Every tensor has the same deviation, and no draw repeats.
    for place in (0, 1200, 1230):
        own = draws[:, place]
        assert float(own.std()) == pytest.approx(deviation, rel=0.5)
    assert abs(float(torch.corrcoef(draws[:2])[0, 1])) < 5 / math.sqrt(draws.shape[1])
    # Shares of Gaussian draws within one and within two deviations.
    for width, share in ((1, 0.6827), (2, 0.9545)):
        within = float((draws.abs() < width * deviation).float().mean())
        assert within == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / count))


def test_only_a_noiseless_replay_has_no_noise():
    chosen = ClipNoise(clipping_norm=0.5, noise_multiplier=1.0)
    quiet = released(chosen, update(), noiseless=True)
    assert torch.equal(flat(quiet), flat(clipped(update(), 0.5)))
    assert not torch.equal(flat(released(chosen, update())), flat(quiet))
    (planned,) = wrapped(chosen, noiseless=True).planned
    assert planned.noise_multiplier == 1.0


def sent(federation, *, round, client):
    capture = Capture.load(federation.folder.captures, round=round, client=client)
    changes = {n: t - capture.global_state[n] for n, t in capture.payload.tensors.items()}
    return flat(changes)


def test_clients_and_rounds_never_share_noise():
    """The difference from a run without noise is the noise alone."""
    quiet = small(rounds=1, defenses=[EVERYONE | {"noise_multiplier": 0.0}], captures=KEEP)
    noisy = quiet.changed(defenses=[EVERYONE])
    one, other = finished(quiet), finished(noisy)
    noise = [sent(other, round=1, client=c) - sent(one, round=1, client=c) for c in range(4)]
    assert len(noise[0]) > 600
    for part in noise:
        assert float(part.std()) == pytest.approx(0.2, rel=0.15)
    shared = torch.corrcoef(torch.stack(noise)) - torch.eye(4)
    assert float(shared.abs().max()) < 5 / math.sqrt(len(noise[0]))
    long = finished(noisy.changed(rounds=2))
    again = sent(long, round=2, client=0)
    assert abs(float(torch.corrcoef(torch.stack([noise[0], again]))[0, 1])) < 0.2


KEEP = {"keep": "all"}


def test_sent_update_is_within_the_norm():
    short = EVERYONE | {"clipping_norm": 0.01, "noise_multiplier": 0.0}
    norms = finished(small(rounds=2, defenses=[short])).folder.table("clients")["update_norm"]
    assert norms.tolist() == pytest.approx([0.01] * 8, rel=1e-3)


def test_clip_noise_is_accounted_at_sensitivity_two():
    """Two clipped updates differ by at most 2 C, so noise of deviation z C counts as z / 2."""
    federation = finished(small(rounds=3, defenses=[EVERYONE | {"clients": "1"}]))
    reference = RDPAccountant()
    for round in range(1, 4):
        reference.step(noise_multiplier=1.0, sample_rate=1.0)
        row = federation.ledger.until(round).rows(round)[1]
        assert row.epsilon_total == pytest.approx(reference.get_epsilon(1e-5))
    assert (row.unit, row.adjacency, row.mechanism) == ("client", "replace-one", "clip-noise")
    assert (row.sample_rate, row.steps, row.clipping_norm) == (1.0, 1, 0.1)
    assert math.isinf(federation.ledger.total(1, EXAMPLE))
    assert math.isinf(federation.ledger.total(0, CLIENT))


def test_client_over_its_budget_abstains():
    federation = finished(small(defenses=[EVERYONE | {"clients": "1", "budget": 10.0}]))
    table = federation.folder.table("clients")
    assert table[table["client"] == 1]["status"].tolist() == ["ok", "ok", "ok", "budget"]
    assert federation.ledger.protected(1, CLIENT) <= 10.0


@pytest.mark.parametrize("role", [[LEAK], []], ids=["gradient", "weights"])
def test_referee_replays_clip_noise(role):
    attack = {"clients": "0", "iterations": 2}
    scenario = small(
        "data.train=80", rounds=1, roles=role, defenses=[EVERYONE], reconstructions=[attack]
    )
    table = finished(scenario).folder.table("leakage")
    assert (table["payload_cosine"] > 0.99999).all()
    assert (table["signal_cosine"] > 0.9999).all()
    assert set(table["objective"]) == {"cosine"}


def test_toggle_starts_the_account():
    federation = Federation(small(rounds=3))
    federation.step()
    federation.toggle("clip-noise", on=True, clients=[2], noise_multiplier=4.0)
    federation.run()
    rows = [row for row in federation.ledger.rows() if row.client == 2]
    assert [row.mechanism for row in rows] == ["none", "clip-noise", "clip-noise"]
    assert all(math.isinf(row.epsilon_total) for row in rows)
    assert rows[2].epsilon_protected == pytest.approx(federation.ledger.protected(2, CLIENT))
