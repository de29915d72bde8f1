"""Sentences on numbers of images: intervals, images that were not attacked, and power."""

import math

import pandas as pd

from fedlab.metrics.verdict import POWERFUL
from fedlab.report.tables.numbers import counted, interval, listed
from fedlab.results.attacks import (
    UNKNOWN,
    ImageCounts,
    counted_images,
    empty_updates,
    skip_reasons,
)

MOST_REASONS = 2
"""Largest number of reasons for skipped images that a sentence gives."""


def percent_interval(low: float, high: float) -> str:
    """Format an interval of a share in percent.

    Example:
        >>> percent_interval(0.331, 0.98)
        '33 to 98 %'
    """
    return interval(f"{100 * low:.0f}", f"{100 * high:.0f}") + " %"


def share_sentence(rows: pd.DataFrame, clusters: str) -> str:
    """State the leaking share with its interval, and how many clients it is over.

    Args:
        rows: Rows of ``scored_images``, at least one.
        clusters: What is independent, such as ``client``.
    """
    found = counted_images(rows)
    if found.clusters < 2:
        return "All images are of one client, so nothing is known of the share at others."
    return (
        f"The share that leaks is {found.leaking / found.images:.0%}, with a 95 % interval of "
        f"{percent_interval(found.low, found.high)} over {counted(found.clusters, clusters)}, "
        "whose images are not independent."
    )


def grades_text(found: ImageCounts) -> str:
    """Numbers of images that are recognisable, inconclusive or skipped; empty if there are none.

    Example:
        >>> grades_text(ImageCounts(9, 4, 2, 1, 1, 3, 0.1, 0.8))
        ', 2 recognisable, 1 inconclusive (1 not attacked)'
    """
    parts = [f", {found.recognisable} recognisable"] * bool(found.recognisable)
    parts += [f", {found.inconclusive} inconclusive"] * bool(found.inconclusive)
    parts += [f" ({found.skipped} not attacked)"] * bool(found.skipped)
    return "".join(parts)


def skipped_sentence(leakage: pd.DataFrame) -> str:
    """State how many images and updates were not scored or not attacked, and why; may be empty.

    Args:
        leakage: The leakage table of a run or a comparison.
    """
    if leakage.empty:
        return ""
    sentences = []
    if unscored := int((leakage["target"] == UNKNOWN).sum()):
        sentences.append(
            f"{counted(unscored, 'image')} reconstructed, but neither scored nor graded, since "
            "only the clients have the true images: look at the pictures."
        )
    if reasons := skip_reasons(leakage):
        total = sum(reasons.values())
        parts = [f"{reason} ({count})" for reason, count in reasons.items()]
        parts[MOST_REASONS:] = ["more in the column skipped"] * (len(parts) > MOST_REASONS)
        why = listed(parts)
        verb = "was" if total == 1 else "were"
        sentences.append(f"{counted(total, 'image')} {verb} not attacked: {why}.")
    empty, updates = empty_updates(leakage)
    if empty:
        sentences.append(f"{empty} of {counted(updates, 'attacked update')} held no image.")
    return " ".join(sentences)


def power_sentence(rows: pd.DataFrame) -> str:
    """State the power of attacks, and what follows if it is below one half; empty if unknown.

    Args:
        rows: Rows of ``scored_images``.
    """
    power = rows["power"].dropna()
    if power.empty:
        return ""
    shares = interval(f"{power.min():.2f}", f"{power.max():.2f}")
    text = (
        f"The power of the attack is {shares}: the share of images that it finds at simulated "
        "clients with public images and without a defense"
    )
    if power.min() >= POWERFUL:
        return text + "."
    return text + f"; below {POWERFUL} an image that does not leak is inconclusive."


def simulated_power_sentence(power: float) -> str:
    """State the power of an attack on an update of which nobody knows the images.

    Args:
        power: Share of simulated clients' images that leak to the attack, in [0, 1]; NaN if it was
            not measured.
    """
    if math.isnan(power):
        return (
            "the power of the attack was not measured, which needs public images: if nothing can "
            "be recognised, this is inconclusive"
        )
    text = (
        f"power {power:.2f}: the share of public images that the same attack finds in updates of "
        "simulated clients without a defense"
    )
    if power >= POWERFUL:
        return text
    return text + f"; below {POWERFUL}, so if nothing can be recognised, this is inconclusive"


def choice_sentence(rows: pd.DataFrame) -> str:
    """State which settings a self-tuning attack chose; empty for an attack that does not.

    Args:
        rows: Rows of ``scored_images``.
    """
    choices = [choice for choice in dict.fromkeys(rows["choice"].astype(str)) if choice]
    if not choices:
        return ""
    tried = "It chose its settings by trying them on simulated clients that run the same defense"
    if len(choices) == 1:
        return f"{tried}: {choices[0]}."
    return f"{tried}, and chose {len(choices)} different ones, which leakage.csv lists."
