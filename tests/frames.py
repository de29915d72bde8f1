"""Small frames of comparisons, written by hand."""

import math

import pandas as pd

from fedlab.comparison.frame import COLUMNS


def row(**values):
    """A row of an honest client of an open run, with what is given in its place."""
    defaults = {
        "scenario": "small", "defense": "none", "rule": "FedAvg", "seed": 0, "attack": "fast",
        "round": 1, "client": 0, "role": "honest", "defenses": "none", "status": "ok",
        "selected": "", "update_norm": 1.0, "accuracy": 0.5, "worst_recall": 0.2,
        "attack_success_rate": math.nan, "images": 0, "leaking": 0, "psnr": math.nan,
        "ssim": math.nan, "chance_psnr": math.nan, "above_chance": math.nan,
        "identification": math.nan, "setting": None, "threat": None, "epsilon_round": math.inf,
        "epsilon_protected": math.nan, "epsilon_total": math.inf, "seconds": 1.0,
    }  # fmt: skip
    assert list(defaults) == list(COLUMNS)
    unknown = values.keys() - defaults.keys()
    assert not unknown, unknown
    return defaults | values


def frame(*rows):
    """A frame of some rows."""
    return pd.DataFrame([row(**each) for each in rows])
