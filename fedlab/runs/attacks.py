"""What an attack is called wherever attacks are told apart."""

import pandas as pd


def attack_labels(leakage: pd.DataFrame) -> "pd.Series[str]":
    """Preset and whether labels were granted, and the threat where the server was malicious.

    Args:
        leakage: Rows of ``leakage.csv``; those of an earlier version have no ``threat``.
    """
    granted = leakage["known_labels"].astype(str).map({"True": "known", "False": "inferred"})
    labels = leakage["preset"].astype(str) + ", labels " + granted.astype(str)
    if "threat" in leakage:
        labels = labels.where(leakage["threat"] != "malicious", labels + ", malicious server")
    return labels
