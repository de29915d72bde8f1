"""Every quoted figure that is registered is the measured one, rounded."""

import json

import pytest

from benchmarks import claims
from benchmarks.claims import Claim, check, main, mistakes, moved, registered

FIGURES = {"PSNR": {"median": 49.291, "min": 39.12, "max": 56.08, "n": 8}}


def claim(quote, *values):
    return Claim("docs/figures.md", "cifar", quote, values)


def test_quoted_figures_are_the_measured_ones():
    assert check() == []


@pytest.mark.parametrize(
    "name", ["cifar", "defended", "federation", "long-gpu", "scale", "secure_sum"]
)
def test_results_of_the_figures_page_are_registered(name):
    assert name in {each.result for each in registered()}


@pytest.mark.parametrize("quote", ["49.3 dB", "49 dB", "49.29 dB"])
def test_rounding_is_that_of_the_text(quote):
    assert mistakes(claim(quote, "PSNR.median"), f"It is {quote}.", FIGURES) == []


@pytest.mark.parametrize("quote", ["49.2 dB", "50 dB", "49.30 dB"])
def test_another_figure_is_a_mistake(quote):
    (mistake,) = mistakes(claim(quote, "PSNR.median"), f"It is {quote}.", FIGURES)
    assert "PSNR.median of cifar is 49.291" in mistake


def test_a_text_that_is_gone_is_a_mistake():
    assert mistakes(claim("49.3 dB", "PSNR.median"), "It is 48 dB.", FIGURES)


def test_each_number_needs_its_value():
    (mistake,) = mistakes(claim("28x28: 49.3 of 8", "PSNR.median"), "28x28: 49.3 of 8", FIGURES)
    assert "has 2 numbers, not 1" in mistake


def test_a_value_that_was_not_measured_is_a_mistake():
    assert mistakes(claim("49.3", "SSIM.median"), "49.3", FIGURES) == [
        'cifar measures no "SSIM.median"'
    ]


def test_a_median_outside_the_range_has_moved():
    again = {"PSNR": FIGURES["PSNR"] | {"median": 30.0}}
    own = claim("49.3 (8)", "PSNR.median", "PSNR.n")
    assert list(moved(own, FIGURES, FIGURES)) == []
    assert list(moved(own, FIGURES, again)) == ["cifar, PSNR: 30, was 39.12 to 56.08"]


def test_measuring_again_compares_the_new_medians(monkeypatch, tmp_path, capsys):
    def run(arguments):
        file = arguments[arguments.index("--out") + 1]
        figures = [{"name": "PSNR", "median": 1.0, "min": 1.0, "max": 1.0, "n": 8}]
        with open(file, "w") as opened:
            json.dump({"figures": figures}, opened)
        return 0

    monkeypatch.setattr(claims, "benchmark", run)
    data = tmp_path / "cifar10.npz"
    assert main(["--again", "--results", "cifar", "--data", str(data)]) == 1
    assert "cifar, PSNR: 1, was 39.12 to 56.081" in capsys.readouterr().out
    assert main(["--again", "--results", "cifar"]) == 0
    assert "cifar is left out: it needs --data" in capsys.readouterr().out
