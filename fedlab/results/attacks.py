"""What an attack of a leakage table is called, and which of several is the strongest."""

import math

import pandas as pd

MALICIOUS = ", malicious server"
"""How the label of an attack ends where the server tampered with what it sent."""

_WHOSE = ("defense", "rule", "seed")
"""Columns that the table of a comparison has in front."""


def attack_labels(leakage: pd.DataFrame) -> "pd.Series[str]":
    """The attack of each row in words.

    It is the preset with whether it was granted the labels, and with the server's malice where it
    tampered with what it sent.

    Args:
        leakage: Rows of ``leakage.csv``; of an earlier version, it may lack ``threat``.

    Example:
        >>> rows = {"preset": ["fast"], "known_labels": [False], "threat": ["malicious"]}
        >>> list(attack_labels(pd.DataFrame(rows)))
        ['fast, labels inferred, malicious server']
    """
    known = leakage["known_labels"].astype(str) == "True"
    labels = leakage["preset"].astype(str) + ", labels " + known.map(_granted).astype(str)
    if "threat" in leakage:
        labels += (leakage["threat"] == "malicious").map(_malice).astype(str)
    return labels


def best_of_each(leakage: pd.DataFrame) -> pd.DataFrame:
    """The rows of original images, one for each image and attack.

    Two attacks that are called the same may have had the same images, with other settings; the
    better result stays: one that leaks, and then the higher PSNR.

    Args:
        leakage: Rows of a run's or of a comparison's ``leakage.csv``.

    Returns:
        In the order of the table, with ``attack`` from ``attack_labels``, ``leaks`` and numbers
        in ``psnr`` and ``chance_psnr``, NaN where nothing was rebuilt.
    """
    rows = leakage[leakage["target"] == "original"].copy()
    rows["attack"] = attack_labels(rows)
    rows["leaks"] = rows["verdict"] == "leaks"
    for name in ("psnr", "chance_psnr"):
        rows[name] = pd.to_numeric(rows[name], errors="coerce")
    whose = [name for name in _WHOSE if name in rows]
    ordered = rows.reset_index(drop=True).sort_values(
        ["leaks", "psnr"], ascending=False, na_position="last", kind="stable"
    )
    best = ordered.drop_duplicates([*whose, "round", "client", "image", "attack"])
    return best.sort_index()


def strongest_label(leakage: pd.DataFrame) -> str:
    """The label of the attack that leaks the largest share of its images.

    Among equals it is the one with the highest median of PSNR above chance in whole dB, and then
    the one that knew less of labels.

    Args:
        leakage: Rows of a leakage table, at least one of them about an original image.
    """

    def strength(attack: tuple[str, pd.DataFrame]) -> tuple[float, float, bool]:
        label, rows = attack
        above = float((rows["psnr"] - rows["chance_psnr"]).median())
        return (
            float(rows["leaks"].mean()),
            -math.inf if math.isnan(above) else round(above),
            "labels inferred" in label,
        )

    groups = [(str(name), rows) for name, rows in best_of_each(leakage).groupby("attack")]
    return max(groups, key=strength)[0]


def _granted(known: bool) -> str:
    return "known" if known else "inferred"


def _malice(malicious: bool) -> str:
    return MALICIOUS if malicious else ""
