"""Labels of the attacks in a leakage table, and the strongest of several attacks."""

import math
from dataclasses import dataclass

import pandas as pd

from fedlab.metrics.intervals import share_interval
from fedlab.metrics.verdict import CONSISTENT, INCONCLUSIVE, LEAKS, NOT_SHOWN, RECOGNISABLE

MALICIOUS = ", malicious server"
"""End of the label of an attack by a server that tampered with what it sent."""

GRADES = (LEAKS, RECOGNISABLE, NOT_SHOWN, INCONCLUSIVE)
"""Verdicts on an image from the strongest; the best of several attacks counts."""

UNKNOWN = "unknown"
"""Value of ``target`` in the row of a reconstructed image whose original nobody but the client has:
it is not scored."""

NO_IMAGE = "none"
"""Value of ``target`` in the row of an attacked update that held no image."""

_WHOSE = ("defense", "rule", "grid", "seed")
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
        The rows with ``attack`` from ``attack_labels`` and ``leaks``, with ``threat``,
        ``reasons``, ``skipped``, ``choice``, ``power``, ``ceiling_identified`` and
        ``labels_guessed``, which tables of earlier versions lack, and with numbers in
        ``chance_psnr`` and in ``psnr``, which is ``aligned_psnr`` where that was measured, and NaN
        if nothing was reconstructed.
    """
    rows = leakage[leakage["target"] == "original"].copy()
    for name, default in (
        ("threat", "honest-but-curious"),
        ("reasons", ""),
        ("skipped", ""),
        ("choice", ""),
    ):
        rows[name] = rows[name].astype(object).fillna(default) if name in rows else default
    rows["leaks"] = rows["verdict"] == LEAKS
    guessed = rows.get("labels_guessed", False)
    rows["labels_guessed"] = pd.Series(guessed, index=rows.index).astype(str) == "True"
    rows["attack"] = attack_labels(rows)
    for name in ("psnr", "chance_psnr", "aligned_psnr", "power", "iip", "ceiling_identified"):
        rows[name] = pd.to_numeric(rows[name], errors="coerce") if name in rows else math.nan
    # Chance is aligned like this column, and the verdict compares the two.
    rows["psnr"] = rows["aligned_psnr"].fillna(rows["psnr"])
    return rows


def leaking_images(rows: pd.DataFrame) -> tuple[int, int]:
    """Number of images that leak under any attack, and number of images behind attacked updates.

    Images that could not be attacked count among the second.

    Args:
        rows: Rows of ``scored_images``; several attacks on an image in a round count once.
    """
    found = counted_images(rows)
    return found.leaking, found.images


@dataclass(frozen=True)
class GradeCounts:
    """Numbers of images, each counted once under its best grade by any attack.

    Attributes:
        images: Number of images behind the attacked updates.
        leaking: Number of images that leak.
        recognisable: Number of further images that are recognisable.
        inconclusive: Number of further images of which every attack is inconclusive.
        skipped: Number of images that no attack could run on.
    """

    images: int
    leaking: int
    recognisable: int
    inconclusive: int
    skipped: int

    @property
    def grade(self) -> str:
        """The best grade of any image."""
        if self.leaking:
            return LEAKS
        if self.recognisable:
            return RECOGNISABLE
        return INCONCLUSIVE if self.inconclusive == self.images else NOT_SHOWN


@dataclass(frozen=True)
class ImageCounts(GradeCounts):
    """Numbers of images by grade, with an interval of the leaking share.

    Attributes:
        clusters: Number of clients and seeds that the images are of; images of one client and seed
            are not independent.
        low: Lower end of the 95 % interval of the leaking share.
        high: Upper end of it.
    """

    clusters: int
    low: float
    high: float


def counted_images(rows: pd.DataFrame) -> ImageCounts:
    """Count the images by their best grade, with an interval of the leaking share.

    Args:
        rows: Rows of ``scored_images``, at least one; several attacks on an image in a round count
            once.
    """
    each = _graded(rows)
    seed = ["seed"] * ("seed" in rows)
    leaks = (each["grade"] == 0).groupby([*seed, "client"])
    low, high = share_interval(leaks.sum().tolist(), leaks.size().tolist())
    numbers = each["grade"].value_counts()
    return ImageCounts(
        images=len(each),
        leaking=int(numbers.get(0, 0)),
        recognisable=int(numbers.get(GRADES.index(RECOGNISABLE), 0)),
        inconclusive=int(numbers.get(GRADES.index(INCONCLUSIVE), 0)),
        skipped=int(each["lost"].sum()),
        clusters=leaks.ngroups,
        low=low,
        high=high,
    )


def counted_by_round(rows: pd.DataFrame) -> dict[int, GradeCounts]:
    """Count the images of each attacked round of one run; arguments as above."""
    each = _graded(rows)
    lost = each["lost"].groupby("round").sum()
    grades = pd.crosstab(each.index.get_level_values("round"), each["grade"])
    counts = grades.reindex(columns=range(len(GRADES)), fill_value=0)
    return {
        int(round): GradeCounts(sum(found), found[0], found[1], found[3], int(lost[round]))
        for round, *found in counts.itertuples()
    }


def _graded(rows: pd.DataFrame) -> pd.DataFrame:
    """The place in ``GRADES`` of each image's best grade, and whether no attack could run on it."""
    run = [name for name in _WHOSE if name in rows]
    words = rows["verdict"].astype(str)
    ranks = words.map(GRADES.index).where(words.isin(GRADES), GRADES.index(NOT_SHOWN))
    return (
        rows.assign(grade=ranks, lost=rows["skipped"] != "")
        .groupby([*run, "round", "client", "image"])
        .agg(grade=("grade", "min"), lost=("lost", "all"))
    )


def skip_reasons(leakage: pd.DataFrame) -> dict[str, int]:
    """Number of skipped images by the reason, of images that no attack could run on.

    Args:
        leakage: Rows of a run's or of a comparison's ``leakage.csv``.
    """
    rows = scored_images(leakage)
    whose = [*(name for name in _WHOSE if name in rows), "round", "client", "image"]
    lost = rows[(rows["skipped"] != "").groupby([rows[name] for name in whose]).transform("all")]
    return {
        str(k): int(v) for k, v in lost.drop_duplicates(whose)["skipped"].value_counts().items()
    }


def empty_updates(leakage: pd.DataFrame) -> tuple[int, int]:
    """Number of attacked updates that held no image, and number of attacked updates.

    Args:
        leakage: Rows of a run's or of a comparison's ``leakage.csv``.
    """
    whose = [*(name for name in _WHOSE if name in leakage), "round", "client"]
    updates = leakage.assign(empty=leakage["target"] == NO_IMAGE).groupby(whose)["empty"].all()
    return int(updates.sum()), len(updates)


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
