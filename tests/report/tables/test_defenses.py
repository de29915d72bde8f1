"""The table of defenses has a row per arm and no column without a measurement."""

import math
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from fedlab.report.tables.defenses import defenses_table, epsilon_text, spread
from tests.report.frames import frame

LEAKING = {"images": 2, "leaking": 1, "psnr": 20.0, "chance_psnr": 15.0, "above_chance": 5.0}
PRIVATE = {"epsilon_protected": 3.0, "epsilon_total": 4.0}


def lines(*rows):
    table = defenses_table(frame(*rows), title="")
    headers = [column.header for column in table.columns]
    return [dict(zip(headers, row, strict=True)) for row in table.rows]


def test_row_shows_all_measures():
    bad = {"attack_success_rate": 0.25}
    open_line, private = lines(
        {**LEAKING, **bad, "seed": 0, "accuracy": 0.8},
        {**LEAKING, **bad, "seed": 1, "accuracy": 0.7, "above_chance": 7.0},
        {
            **LEAKING,
            **bad,
            **PRIVATE,
            "defense": "dp-sgd",
            "leaking": 0,
            "seconds": 12.0,
            "cpu_seconds": 11.6,
        },
    )
    assert open_line["accuracy"] == "0.750\n0.700 … 0.800"
    assert open_line["above\nchance"] == "+6.0\n+5.0 … +7.0"
    assert open_line["images\nleaking"] == "2 of 4\n0 … 100 %"
    assert (open_line["ε\nhonest"], private["ε\nhonest"]) == ("∞", "4.00")
    assert (open_line["ε\nattacked"], private["ε\nattacked"]) == ("∞", "4.00")
    assert private["attack\nsuccess"] == "0.25"
    assert (open_line["seeds"], private["seeds"]) == ("2", "1")
    assert private["PSNR\n(chance)"] == "20.0 (15.0)"
    assert (private["time\ns"], private["CPU\ns"]) == ("12", "12")


def test_attack_success_has_its_chance():
    (line,) = lines({"attack_success_rate": 0.9, "chance_success_rate": 0.04})
    assert line["attack\nsuccess"] == "0.90\nchance 0.04"


def test_columns_without_measurement_are_left_out():
    (quiet,) = lines({})
    assert not {"PSNR\n(chance)", "images\nleaking", "attack\nsuccess", "rule"} & quiet.keys()
    with_rules = lines({}, {"rule": "Krum"})
    assert [line["rule"] for line in with_rules] == ["FedAvg", "Krum"]


def test_arm_without_attack_has_dashes():
    _, hidden = lines(LEAKING, {"defense": "secure-aggregation"})
    assert (hidden["images\nleaking"], hidden["above\nchance"]) == ("-", "-")


@pytest.mark.parametrize(
    ("protected", "total", "unit", "text"),
    [
        (2.0, 2.0, "example", "2.00"),
        (2.0, math.inf, "example", "2.00\nprot. rounds"),
        (2.0, 2.0, "client", "2.00\nof a client"),
        (math.nan, math.inf, "", "∞"),
        (math.nan, math.nan, "", "-"),
    ],
)
def test_epsilon_names_protected_rounds_and_clients(protected, total, unit, text):
    line = SimpleNamespace(epsilon_protected=protected, epsilon_total=total, unit=unit)
    assert epsilon_text(line) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [((1.0, 1.0, 1.0), "1.0"), ((2.0, 1.0, 4.0), "2.0\n1.0 … 4.0"), ((math.nan,) * 3, "-")],
)
def test_spread_shows_median_and_range(values, text):
    names = ("accuracy", "accuracy_min", "accuracy_max")
    line = SimpleNamespace(**dict(zip(names, values, strict=True)))
    assert spread(line, "accuracy", ".1f") == text


def test_table_fits_a_terminal():
    console = Console(width=110)
    name = "dp-sgd:noise_multiplier=0.5:clipping_norm=2"
    rows = [
        {**LEAKING, **PRIVATE, "defense": name, "attack_success_rate": 1.0, "seed": seed,
         "accuracy": 0.7 + seed / 10, "above_chance": -6.0 - seed}
        for seed in (0, 1, 2)
    ]  # fmt: skip
    with console.capture() as captured:
        console.print(defenses_table(frame(*rows), title="What does each defense buy?"))
    text = captured.get()
    assert "What does each defense buy?" in text
    assert "0.700 … 0.900" in text
    assert "-8.0 … -6.0" in text
    assert not re.search(r"\S…", text)  # nothing is cut off
