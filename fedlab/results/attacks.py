"""Labels of the attacks in a leakage table, and the strongest of several attacks."""

import math

import pandas as pd

from fedlab.metrics.verdict import CONSISTENT

MALICIOUS = ", malicious server"
"""End of the label of an attack by a server that tampered with what it sent."""

_WHOSE = ("defense", "rule", "seed")
"""First columns in the table of a comparison."""


def attack_labels(leakage: pd.DataFrame) -> "pd.Series[str]":
    """The label of each row's attack: its preset, and whether it was given the labels.

    The label says as well if the server tampered with what it sent.

    Args:
        leakage: Rows of ``leakage.csv``; a table of an earlier version may lack ``threat``.

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


def scored_images(leakage: pd.DataFrame) -> pd.DataFrame:
    """Rows about original images, one for each attack on an image.

    Args:
        leakage: Rows of a run's or of a comparison's ``leakage.csv``.

    Returns:
        The rows with ``attack`` from ``attack_labels`` and ``leaks``, with ``threat`` and
        ``reasons``, which tables of earlier versions lack, and with numbers in ``psnr`` and
        ``chance_psnr``, NaN if nothing was reconstructed.
    """
    rows = leakage[leakage["target"] == "original"].copy()
    for name, default in (("threat", "honest-but-curious"), ("reasons", "")):
        rows[name] = rows[name].fillna(default) if name in rows else default
    rows["leaks"] = rows["verdict"] == "leaks"
    rows["attack"] = attack_labels(rows)
    for name in ("psnr", "chance_psnr"):
        rows[name] = pd.to_numeric(rows[name], errors="coerce")
    return rows


def leaking_images(rows: pd.DataFrame) -> tuple[int, int]:
    """Number of images that leak under any attack, and number of attacked images.

    Args:
        rows: Rows of ``scored_images``; several attacks on an image in a round count once.
    """
    run = [name for name in _WHOSE if name in rows]
    leaks = rows.groupby([*run, "round", "client", "image"])["leaks"].any()
    return int(leaks.sum()), len(leaks)


def payload_mismatches(leakage: pd.DataFrame) -> pd.DataFrame:
    """Attacked updates that differ from the replay of the client's training.

    A cosine is NaN where a client's noise cannot be drawn again, and then nothing is concluded.

    Args:
        leakage: Rows of a run's or of a comparison's ``leakage.csv``; a table of an earlier version
            may lack ``payload_cosine``.

    Returns:
        One row for each update, with ``round``, ``client``, the smallest ``payload_cosine`` and the
        columns that identify the run of a comparison.
    """
    run = [name for name in _WHOSE if name in leakage]
    if "payload_cosine" not in leakage:
        return pd.DataFrame(columns=[*run, "round", "client", "payload_cosine"])
    cosines = pd.to_numeric(leakage["payload_cosine"], errors="coerce")
    rows = leakage.assign(payload_cosine=cosines)[cosines < CONSISTENT]
    return rows.groupby([*run, "round", "client"], sort=False, as_index=False)[
        ["payload_cosine"]
    ].min()


def best_of_each(leakage: pd.DataFrame) -> pd.DataFrame:
    """The best row for each original image and attack.

    Two attacks with the same label may have attacked the same image with other settings. The better
    result is kept: one that leaks, and then the one with the higher PSNR.

    Args:
        leakage: Rows of a run's or of a comparison's ``leakage.csv``.

    Returns:
        The rows in the order of the table, with the further columns ``attack`` from
        ``attack_labels`` and ``leaks``; ``psnr`` and ``chance_psnr`` are NaN if nothing was
        reconstructed.
    """
    rows = scored_images(leakage)
    whose = [name for name in _WHOSE if name in rows]
    ordered = rows.reset_index(drop=True).sort_values(
        ["leaks", "psnr"], ascending=False, na_position="last", kind="stable"
    )
    best = ordered.drop_duplicates([*whose, "round", "client", "image", "attack"])
    return best.sort_index()


def strongest_label(leakage: pd.DataFrame) -> str:
    """The label of the attack that leaks the largest share of its images.

    Among equals it is the one with the highest median of PSNR above chance in whole dB, and then
    the one that had to infer the labels.

    Args:
        leakage: Rows of a leakage table, at least one of them with the target ``original``.
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
