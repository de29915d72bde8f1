"""The table of defenses has a line for each, and no column in which nothing was measured."""

import math
import re

import pytest
from rich.console import Console

from fedlab.report.tables.defenses import Epsilon, Spread, columns_of, defense_lines, defenses_table
from tests.report.frames import frame

LEAKING = {"images": 2, "leaking": 1, "psnr": 20.0, "chance_psnr": 15.0, "above_chance": 5.0}
PRIVATE = {"epsilon_protected": 3.0, "epsilon_total": 4.0}


def lines(*rows):
    columns = columns_of(defense_lines(frame(*rows)))
    return [dict(zip(columns.header, row, strict=True)) for row in columns.rows]


def test_a_line_says_what_was_measured():
    bad = {"attack_success_rate": 0.25}
    open_line, private = lines(
        {**LEAKING, **bad, "seed": 0, "accuracy": 0.8},
        {**LEAKING, **bad, "seed": 1, "accuracy": 0.7, "above_chance": 7.0},
        {**LEAKING, **bad, **PRIVATE, "defense": "dp-sgd", "leaking": 0, "seconds": 12.0},
    )
    assert open_line["accuracy"] == "0.750\n0.700 … 0.800"
    assert open_line["above\nchance"] == "+6.0\n+5.0 … +7.0"
    assert open_line["images\nleaking"] == "2 of 4"
    assert (open_line["ε\nhonest"], private["ε\nhonest"]) == ("∞", "4.00")
    assert (open_line["ε\nattacked"], private["ε\nattacked"]) == ("∞", "4.00")
    assert private["attack\nsuccess"] == "0.25"
    assert (open_line["seeds"], private["seeds"]) == ("2", "1")
    assert private["PSNR\n(chance)"] == "20.0 (15.0)"
    assert private["time\ns"] == "12"


def test_attack_success_stands_above_its_chance():
    (line,) = lines({"attack_success_rate": 0.9, "chance_success_rate": 0.04})
    assert line["attack\nsuccess"] == "0.90\nchance 0.04"


def test_columns_without_a_measurement_are_left_out():
    (quiet,) = lines({})
    assert not {"PSNR\n(chance)", "images\nleaking", "attack\nsuccess", "rule"} & quiet.keys()
    with_rules = lines({}, {"rule": "Krum"})
    assert [line["rule"] for line in with_rules] == ["FedAvg", "Krum"]


def test_an_arm_that_nobody_attacked_says_so():
    _, hidden = lines(LEAKING, {"defense": "secure-aggregation"})
    assert (hidden["images\nleaking"], hidden["above\nchance"]) == ("-", "-")


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (Epsilon(2.0, 2.0, "example"), "2.00"),
        (Epsilon(2.0, math.inf, "example"), "2.00\nprot. rounds"),
        (Epsilon(2.0, 2.0, "client"), "2.00\nof a client"),
        (Epsilon(math.nan, math.inf, ""), "∞"),
        (Epsilon(math.nan, math.nan, ""), "-"),
    ],
)
def test_an_epsilon_says_what_is_unusual_about_it(epsilon, text):
    assert epsilon.text == text


@pytest.mark.parametrize(
    ("spread", "text"),
    [((1.0, 1.0, 1.0), "1.0"), ((2.0, 1.0, 4.0), "2.0\n1.0 … 4.0"), ((math.nan,) * 3, "-")],
)
def test_a_spread(spread, text):
    assert Spread(*spread).text(".1f") == text


def test_the_whole_table_fits_a_terminal():
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
