"""Frames of comparisons, made up."""

import math

import pandas as pd

from fedlab.comparison.frame import COLUMNS


def row(**facts):
    """A row of an open round of an honest client, of which nothing is known but what is given."""
    usual = {
        "scenario": "quickstart",
        "defense": "none",
        "rule": "FedAvg",
        "seed": 0,
        "attack": "fast, labels known",
        "round": 1,
        "client": 0,
        "role": "honest",
        "grid": "",
        "images": 0,
        "leaking": 0,
        "recognisable": 0,
        "inconclusive": 0,
        "skipped": 0,
        "status": "ok",
        "accuracy": 0.5,
        "epsilon_round": math.inf,
        "epsilon_total": math.inf,
        "unit": "example",
        "delta": 1e-5,
        "threat": "honest-but-curious" if facts.get("images") else math.nan,
        "seconds": 1.0,
        "cpu_seconds": 1.0,
    }
    assert set(facts) <= set(COLUMNS)
    return dict.fromkeys(COLUMNS, math.nan) | usual | facts


def frame(*rows):
    """A frame of some rows, each given as ``row`` takes or makes it."""
    return pd.DataFrame([row(**each) for each in rows], columns=list(COLUMNS))


def arm(defense, above, accuracy, *, rule="FedAvg", seeds=(0, 1, 2), attack="fast", **facts):
    """Two rounds of an attacked and an honest client for each seed; the first round is worse."""
    for place, seed in enumerate(seeds):
        for round in (1, 2):
            common = {
                "defense": defense,
                "rule": rule,
                "seed": seed,
                "attack": attack,
                "round": round,
                "accuracy": accuracy + 0.01 * (place - 1) - (0.3 if round == 1 else 0),
            } | facts
            leaking = {"client": 0, "role": "leaking"}
            if math.isfinite(above):
                leaking |= {"images": 2, "above_chance": above + 0.5 * (place - 1)}
            yield row(**common | leaking)
            yield row(**common | {"client": 1})
