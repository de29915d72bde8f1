"""A run folder's ledger takes its epsilons from ledger.csv and equals one that computes them."""

import csv
import math
from dataclasses import fields

import pytest

from fedlab.privacy import accounts
from fedlab.privacy.accounts import CLIENT, EXAMPLE
from fedlab.privacy.ledger import Ledger, LedgerRow
from fedlab.privacy.release import PrivacyRelease
from fedlab.results.recorded_ledger import RecordedLedger, recorded_ceilings, recorded_epsilons


def release(round, mechanism, **facts):
    return PrivacyRelease(round=round, participation=round - 1, mechanism=mechanism, **facts)


def private(round, **facts):
    cost = {"noise_multiplier": 1.0, "sample_rate": 0.05, "steps": 20, "clipping_norm": 1.0}
    return release(round, "dp-sgd", **(cost | facts))


NOISY = release(3, "clip-noise", noise_multiplier=4.0, sample_rate=1.0, steps=1, clipping_norm=0.5)
HISTORIES = {
    0: (private(1), private(2), NOISY),
    1: (private(1, fixed_batch=True), release(2, "none")),
    2: (release(1, "dp-instahide", steps=9, epsilon=9.0), private(2)),
}


@pytest.fixture
def file(tmp_path):
    """Ledger file of all rounds but the last one of client 0, as after an interruption."""
    rows = [row for row in Ledger(HISTORIES).rows() if row.round < 3]
    with (tmp_path / "ledger.csv").open("w", newline="") as opened:
        writer = csv.writer(opened)
        names = [field.name for field in fields(LedgerRow)]
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)
    return tmp_path / "ledger.csv"


def recorded(file, delta=1e-5):
    found = recorded_epsilons(file, HISTORIES, accountant="rdp", delta=delta)
    limits = recorded_ceilings(file, HISTORIES)
    return RecordedLedger(HISTORIES, "rdp", delta, recorded=found, ceilings=limits)


@pytest.mark.parametrize("delta", [1e-5, 1e-6])
def test_rows_and_totals_equal_computed_ones(file, delta):
    computed, read = Ledger(HISTORIES, delta=delta), recorded(file, delta)
    assert read.rows() == computed.rows()
    for round in (1, 2, 3):
        for client in HISTORIES:
            for account in (EXAMPLE, CLIENT):
                one, other = computed.until(round), read.until(round)
                assert one.total(client, account) == other.total(client, account)
                assert one.protected(client, account) == other.protected(client, account)


def test_recorded_epsilons_are_not_computed(file, monkeypatch):
    ledger = recorded(file).until(2)
    monkeypatch.setattr(accounts, "epsilon", None)
    assert ledger.total(1) == math.inf
    assert ledger.total(0) == ledger.protected(0) > 0


@pytest.mark.parametrize("text", ["", "round,client\n1,0\n", "not a table"])
def test_damaged_file_costs_time_only(file, text):
    file.write_text(text)
    assert recorded(file).recorded == {}
    assert recorded(file).total(0, EXAMPLE) == Ledger(HISTORIES).total(0, EXAMPLE)


def test_ceilings_of_the_file_are_not_computed_again(file, monkeypatch):
    computed = Ledger(HISTORIES).ceiling(1, 10)
    read = recorded(file)
    monkeypatch.setattr("fedlab.privacy.ledger.ceilings", lambda *_, **__: 1 / 0)
    assert read.ceiling(1, 10) == computed
    with pytest.raises(ZeroDivisionError):
        read.ceiling(0, 10)  # its last round is not in the file


def test_ledger_file_without_ceilings_costs_time_only(file):
    lines = file.read_text().replace("ceiling_10,", "other,")
    file.write_text(lines)
    assert recorded_ceilings(file, HISTORIES) == {}
