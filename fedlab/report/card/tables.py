"""Tables of a card: images by their grade, and attacks with their power."""

from collections.abc import Iterator, Sequence

import pandas as pd

from fedlab.metrics.verdict import POWERFUL
from fedlab.report.card.layout import MOST_LINES
from fedlab.report.tables.naming import under
from fedlab.report.tables.numbers import interval, listed
from fedlab.report.tables.table import Column, ReportTable
from fedlab.report.verdicts.counts import percent_interval
from fedlab.results.attacks import ImageCounts, best_of_each, counted_images, scored_images

Groups = Sequence[tuple[str, str, pd.DataFrame]]
"""Name, threat and rows of ``scored_images`` of what is counted apart."""


def groups_of(leakage: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Rows of ``scored_images`` by what is counted apart, with its name and its threat."""
    arms = [name for name in ("defense", "grid") if name in leakage]
    for key, rows in scored_images(leakage).groupby(["threat", *arms], sort=False):
        threat, *arm = map(str, key)
        name = f"{under(arm[0])}{f' at {arm[1]}' * bool(arm[1])}" if arm else "all updates"
        yield name + ", malicious server" * (threat == "malicious"), threat, rows


def counts_table(groups: Groups) -> ReportTable:
    """How many images of each group have which best grade."""
    numbers = ("images", "leak", "leaking share", "recognisable", "inconclusive", "no leak shown")
    rows = [(name, *_counts(counted_images(rows))) for name, _, rows in groups]
    table = ReportTable(
        "Images by their best grade under any attack",
        [Column("whose"), *(Column(each, "right") for each in numbers)],
        rows,
        "Leaking share: the 95 % interval, which one client's images alone do not have. "
        "Inconclusive: with those that were not attacked.",
    )
    return table.shortened(MOST_LINES, "leakage.csv")


def _counts(found: ImageCounts) -> tuple[str, ...]:
    share = f"{100 * found.leaking / found.images:.0f} %"
    share += f" ({percent_interval(found.low, found.high)})" * (found.clusters > 1)
    lost = f" ({found.skipped} not attacked)" * bool(found.skipped)
    rest = found.images - found.leaking - found.recognisable - found.inconclusive
    return (
        *map(str, (found.images, found.leaking)),
        share,
        str(found.recognisable),
        f"{found.inconclusive}{lost}",
        str(rest),
    )


def attacks_table(groups: Groups) -> ReportTable:
    """Which attacks ran on each group, their power, and how many images they leak."""
    rows = []
    for name, _, each in groups:
        for attack, own in best_of_each(each).groupby("attack", sort=False):
            power = own["power"].dropna()
            shares = [f"{value:.2f}" for value in (power.min(), power.max())]
            text = interval(*shares) if len(power) else "not measured"
            settings = listed(sorted(set(own["setting"])))
            rows.append((name, attack, str(len(own)), str(int(own["leaks"].sum())), text, settings))
    columns = [Column("whose"), Column("attack")]
    columns += [Column(each, "right") for each in ("images", "leak", "power")]
    table = ReportTable(
        "Attacks that ran",
        [*columns, Column("setting")],
        rows,
        "Power: the share of images that the same attack finds where it ought to, at simulated "
        "clients with public images and without a defense. "
        f"Below {POWERFUL:g} an image that does not leak is inconclusive.",
        names=2,
    )
    return table.shortened(MOST_LINES, "leakage.csv")
