"""Figure and table of an audit: measured values stay left of what the ledger excludes."""

import math

import pandas as pd
import pytest

from attacks.privacy_audit.bounds import Audit
from attacks.privacy_audit.gaussian import GaussianAudit
from fedlab.report.figures.bounds import bounds_figure
from fedlab.report.tables.audit import audit_table
from fedlab.simulation.auditing import Verdict
from tests.report.legible import assert_legible, said


def verdict(ledger=3.0, **more):
    bound = Audit(0.8, 0.95, 1e-5, canaries=200, guesses=50, correct=40)
    gaussian = GaussianAudit(1.4, 0.4, 0.95, 1e-5, guesses=100, correct=71)
    estimate = GaussianAudit(2.1, 0.6, 0.95, 1e-5, guesses=200, correct=130)
    facts = {"gaussian": gaussian, "estimate": estimate, "ceiling_10": 0.3, "ceiling_100": 0.06}
    return Verdict(5, 5, 1, bound, ledger, **(facts | more))


def leakage():
    rows = [
        {"round": 1, "client": client, "image": image, "target": "original", "preset": "fast"}
        | {"known_labels": True, "psnr": 9.0, "chance_psnr": 10.0, "verdict": "not shown"}
        | {"iip": float(image == 0), "ceiling_identified": 0.5}
        for client in (0, 1)
        for image in range(4)
    ]
    return pd.DataFrame(rows)


def test_zones_begin_at_the_ledger_and_at_the_ceilings():
    left, right = bounds_figure(verdict(), leakage()).axes
    assert [bar.get_width() for bar in left.patches[:3]] == pytest.approx([0.8, 1.4, 2.1])
    assert left.patches[3].get_x() == pytest.approx(3.0)
    assert [zone.get_x() for zone in right.patches] == pytest.approx([0.3, 0.06, 0.5])
    (point,) = [each for each in right.lines if each.get_xdata()[0] == 0.25]
    assert point.get_ydata()[0] == 2


@pytest.mark.parametrize(
    ("case", "table"),
    [
        ({}, leakage()),
        ({"ledger": math.inf, "ceiling_10": 1.0, "ceiling_100": 1.0}, None),
        ({"gaussian": None, "estimate": None, "ceiling_10": None, "ceiling_100": None}, None),
    ],
    ids=["all", "open round", "other noise"],
)
def test_figure_of_bounds_is_legible(case, table):
    figure = bounds_figure(verdict(**case), table)
    assert_legible(figure)
    assert "canaries" in " ".join(said(figure).split())
    assert figure.alt


def test_table_names_each_epsilon_and_its_kind(console_text):
    text = console_text(audit_table(verdict()))
    for words in (
        ("any mechanism", "0.80", "lower bound", "40 of 50"),
        ("guesses, Gaussian noise", "1.40", "lower bound"),
        ("ROC curve", "2.10", "estimate"),
        ("ledger", "3.00", "upper bound"),
    ):
        assert any(all(word in line for word in words) for line in text.splitlines())
