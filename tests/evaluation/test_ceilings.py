"""Columns of ceilings: which releases, guesses and pools they count."""

import math

import pytest
import torch

from fedlab import Federation, Scenario
from fedlab.evaluation.ceilings import RowCeilings
from fedlab.metrics.public_pool import PublicPool
from fedlab.privacy.ceiling import ceiling
from fedlab.privacy.release import PrivacyRelease
from fedlab.scenario.tables import Privacy

POOL = PublicPool(
    torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2, 0
)


def sgd(round):
    return PrivacyRelease(
        round, round - 1, "dp-sgd", noise_multiplier=2.0, sample_rate=1.0, steps=1
    )


HISTORY = (sgd(1), sgd(2), PrivacyRelease(3, 2, "none"))


def columns(round=2, guesses=1, history=HISTORY, **privacy):
    ceilings = RowCeilings(POOL, Privacy(**privacy))
    return ceilings.of(history, round=round, label=1, alike=20, guesses=guesses)


def test_ceiling_counts_all_releases_up_to_the_round():
    assert columns(1)[0] == ceiling((sgd(1),), 1 / 20)
    assert columns(2)[0] == ceiling((sgd(1), sgd(2)), 1 / 20)
    assert columns(1)[1] < columns(2)[1] < 60


def test_open_round_certifies_nothing():
    assert columns(3) == pytest.approx((1.0, 60.0))


def test_several_guesses_raise_chance():
    assert columns(guesses=4)[0] == ceiling((sgd(1), sgd(2)), 4 / 20)
    assert columns(guesses=40)[0] == 1.0


@pytest.mark.parametrize("case", [{"accountant": "gdp"}, {"history": ()}, {"round": 4}])
def test_without_a_bound_there_is_no_ceiling(case):
    assert all(map(math.isnan, columns(**case)))


def test_rows_of_a_run_have_ceilings():
    scenario = Scenario(
        rounds=1,
        data={"train": 12, "test": 360, "clients": 2},
        model={"name": "mlp", "width": 16},
        roles=[{"role": "leaking", "clients": "0", "batch_size": 2}],
        defenses=[{"name": "dp-sgd", "noise_multiplier": 2.0}],
        captures={"keep": "all"},
    )
    federation = Federation(scenario)
    federation.run()
    rows = federation.reconstruct(round=1, client=0, preset="fast", iterations=2).rows
    assert len(rows) == 2
    for row in rows:
        # A batch of fixed size: half of the noise multiplier counts. Two guesses are paired.
        release = PrivacyRelease(1, 0, "dp-sgd", noise_multiplier=1.0, sample_rate=1.0, steps=1)
        assert row.alike > 20
        assert row.ceiling_identified == ceiling((release,), 2 / row.alike)
        assert 20 < row.ceiling_psnr < 60
