"""Summaries of a comparison's frame: one row per run, and one row per arm over the seeds."""

import math
from typing import Any

import pandas as pd

from fedlab.comparison.frame import COLUMNS
from fedlab.comparison.sweep import COLUMN
from fedlab.metrics.intervals import share_difference, share_interval
from fedlab.metrics.verdict import success_above_chance
from fedlab.results.attacks import counted_images

ARM = ["defense", "rule", "grid"]
"""Columns that identify an arm of a comparison."""

MEASURES = (
    *("accuracy", "attack_success_rate", "chance_success_rate", "success_above_chance"),
    *("psnr", "chance_psnr", "above_chance", "seconds", "cpu_seconds"),
)
"""Columns that are summarised over seeds by median, minimum and maximum."""

COUNTS = ("images", "leaking", "recognisable", "inconclusive", "skipped", "labels_guessed")
"""Columns with numbers of images, which are summed over seeds."""

UNDEFENDED = "none"
"""Label of the arm without a defense."""

EPSILONS = ("epsilon_protected", "epsilon_total")


Arm = tuple[str, ...]
"""The values of ``ARM``."""

_SHARES = (
    *("clusters", "leaking_low", "leaking_high"),
    *("fewer_leaks", "fewer_leaks_low", "fewer_leaks_high"),
)


def strongest_attacks(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the strongest attack on each arm, and of arms without any attack.

    The strongest attack has the largest share of leaking images and, among equals, is chosen as in
    ``fedlab.results.attacks.strongest_label``. Attacks by a malicious server are left out where an
    honest but curious one attacks as well, since the two are never compared. An arm in which nobody
    could be attacked keeps the first of its attacks.
    """
    # Unsorted groups keep arms and attacks in the order of the frame, which the user asked for.
    groups = frame.groupby([*ARM, "attack"], sort=False)
    ranked = pd.DataFrame(
        {
            "curious": groups["threat"].first() == "honest-but-curious",
            "share": (groups["leaking"].sum() / groups["images"].sum()).fillna(-1),
            "above": groups["above_chance"].median().round().fillna(-math.inf),
        }
    ).reset_index()
    ranked["inferred"] = ranked["attack"].str.contains("labels inferred")
    ranks = ["curious", "share", "above", "inferred"]
    best = ranked.sort_values(ranks, ascending=False, kind="stable").drop_duplicates(ARM)
    return frame.merge(best[[*ARM, "attack"]], on=[*ARM, "attack"])


def per_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """Results of each run under the strongest attack on its arm.

    Args:
        frame: The frame of a comparison, with at least one row.

    Returns:
        A row for each defense, rule, swept setting and seed, with the values of the swept settings:
        ``attack``; after the last round ``accuracy``,
        ``attack_success_rate``, ``chance_success_rate`` and ``success_above_chance``; ``psnr``,
        ``chance_psnr`` and ``above_chance`` in dB, medians over attacked clients and rounds, NaN
        where nobody was attacked; the number of ``images`` behind attacked updates, and how many of
        them are ``leaking``, ``recognisable``, ``inconclusive`` and ``skipped``, and how many have
        guessed labels (``labels_guessed``); the lowest ``power`` of the attacks; the share of
        images ``identified`` in their pool and ``ceiling_identified``, which no attack exceeds,
        means over attacked clients and rounds;
        ``epsilon_protected`` and ``epsilon_total``, the largest over clients that are honest
        throughout, or over all where nobody is; the same over attacked clients with the prefix
        ``attacked_``; ``unit``, ``adjacency`` and ``delta`` of these; ``seconds`` and
        ``cpu_seconds`` of all rounds, attacks included; and medians of the metrics that the
        scenario adds.
    """
    found = []
    further = _further(frame)
    for arm, run in strongest_attacks(frame).groupby([*ARM, "seed"], sort=False):
        last = run[run["round"] == run["round"].max()].iloc[0]
        # The last known value: a client that abstained in a round has none there.
        epsilons = run.groupby("client")[list(EPSILONS)].last()
        honest = epsilons[~epsilons.index.isin(run.loc[run["role"] != "honest", "client"])]
        attacked = epsilons[epsilons.index.isin(run.loc[run["images"] > 0, "client"])]
        accounted = run[run["epsilon_protected"].notna()]
        line: dict[Any, Any] = dict(zip([*ARM, "seed"], arm, strict=True))
        line |= {name: run[name].iloc[0] for name in swept_columns(frame)}
        line |= last[["attack", *MEASURES[:3]]].to_dict()
        line |= run[list(COUNTS)].sum().astype(int).to_dict()
        line["power"] = run["power"].min()
        line |= run[["identified", "ceiling_identified"]].mean().to_dict()
        line |= run[["psnr", "chance_psnr", "above_chance", *further]].median().to_dict()
        line["success_above_chance"] = success_above_chance(
            line["attack_success_rate"], line["chance_success_rate"]
        )
        spent = run.drop_duplicates("round")[["seconds", "cpu_seconds"]]
        line |= spent.sum(skipna=False).to_dict()
        line |= (honest if len(honest) else epsilons).max().to_dict()
        line |= attacked.max().add_prefix("attacked_").to_dict()
        for name, missing in (("unit", None), ("adjacency", None), ("delta", math.nan)):
            line[name] = accounted[name].iloc[0] if len(accounted) else missing
        found.append(line)
    return pd.DataFrame(found)


def summary_of(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each arm, with medians over seeds.

    Args:
        frame: The frame of a comparison, with at least one row.

    Returns:
        ``defense``, ``rule``, ``grid``, ``seeds`` (their number), the values of the swept
        settings and ``attack``; the median of each of
        ``MEASURES``, and of the metrics that the scenario adds, with its ``_min`` and ``_max``;
        the numbers of images of all seeds; ``clusters``, the number of attacked clients summed over
        seeds; the 95 % interval of the leaking share, ``leaking_low`` to ``leaking_high``;
        ``fewer_leaks``, the share under no defense minus that under this one, with its paired
        interval ``fewer_leaks_low`` to ``fewer_leaks_high``, and ``accuracy_change``, the accuracy
        minus that under no defense, all NaN without such an arm; the lowest
        ``power``; and the largest epsilons with their unit, adjacency and delta, as ``per_seed``
        names them.
    """
    groups = per_seed(frame).groupby(ARM, sort=False)
    parts: list[pd.Series[Any] | pd.DataFrame] = [
        groups.size().rename("seeds"),
        *(groups[name].first() for name in swept_columns(frame)),
        groups["attack"].first(),
    ]
    for measure in (*MEASURES, *_further(frame)):
        values = groups[measure]
        parts.append(values.median())
        parts += [values.min().rename(f"{measure}_min"), values.max().rename(f"{measure}_max")]
    parts += [groups[name].sum() for name in COUNTS]
    parts += [groups["power"].min(), _leaking_shares(frame)]
    parts += [groups[f"{who}{name}"].max() for who in ("", "attacked_") for name in EPSILONS]
    parts += [groups[name].first() for name in ("unit", "adjacency", "delta")]
    table = pd.concat(parts, axis=1)
    bases = _undefended(frame)
    table["accuracy_change"] = [
        accuracy - table.loc[bases[arm], "accuracy"] if arm in bases else math.nan
        for arm, accuracy in table["accuracy"].items()
    ]
    return table.reset_index()


def proves_nothing(rows: pd.DataFrame) -> str:
    """Warning if no image leaks without a defense, so that no defense is seen to do anything.

    Args:
        rows: Rows of ``scored_images`` of a comparison.

    Returns:
        The warning, empty if images leak without a defense, or if one arm alone was compared.
    """
    if rows["defense"].nunique() < 2:
        return ""
    open = rows[rows["defense"] == UNDEFENDED]
    if open.empty:
        return ""
    found = counted_images(open)
    if found.leaking:
        return ""
    return (
        f"the comparison proves nothing about defenses: without a defense the attack leaks none of "
        f"{found.images} image{'s' * (found.images != 1)} ({found.inconclusive} inconclusive)."
    )


def swept_columns(table: pd.DataFrame) -> list[str]:
    """Columns with the values of swept settings, such as ``grid.training.lr``."""
    return [name for name in map(str, table.columns) if name.startswith(COLUMN)]


def _further(frame: pd.DataFrame) -> list[str]:
    """Columns of the metrics that the scenario adds."""
    return [n for n in map(str, frame.columns) if n not in COLUMNS and not n.startswith(COLUMN)]


def _leaking_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Intervals of the leaking shares, by arm; images of one seed and client form a cluster."""
    rows = strongest_attacks(frame)
    counts = {
        arm: own[["seed", "client", "leaking", "images"]].groupby(["seed", "client"]).sum()
        for arm, own in rows[rows["images"] > 0].groupby(ARM)
    }
    found: dict[Arm, dict[str, float]] = {}
    bases = _undefended(frame)
    for arm in rows[ARM].drop_duplicates().itertuples(index=False, name=None):
        line = found[arm] = dict.fromkeys(_SHARES, math.nan) | {"clusters": 0}
        if (own := counts.get(arm)) is None:
            continue
        line["clusters"] = len(own)
        line["leaking_low"], line["leaking_high"] = share_interval(*_hits(own))
        base = counts.get(bases[arm]) if arm in bases else None
        if base is not None and not (pairs := pd.concat([base, own], axis=1, join="inner")).empty:
            fewer = share_difference(_hits(pairs.iloc[:, :2]), _hits(pairs.iloc[:, 2:]))
            line["fewer_leaks"] = fewer.value
            line["fewer_leaks_low"], line["fewer_leaks_high"] = fewer.low, fewer.high
    index = pd.MultiIndex.from_tuples(found, names=ARM)
    return pd.DataFrame(found.values(), index=index)


def _undefended(frame: pd.DataFrame) -> dict[Arm, Arm]:
    """The arm without a defense under the same rule and settings, by each arm that has one."""
    arms = frame.drop_duplicates(ARM)
    swept, undefended = swept_columns(frame), arms[arms["defense"] == UNDEFENDED]
    found = {}
    for _, arm in arms[arms["defense"] != UNDEFENDED].iterrows():
        for _, base in undefended[undefended["rule"] == arm["rule"]].iterrows():
            # Settings of the arm's defense are none of the other's.
            if all(pd.isna(base[name]) or base[name] == arm[name] for name in swept):
                found[tuple(arm[ARM])] = tuple(base[ARM])
    return found


def _hits(counts: pd.DataFrame) -> tuple[list[int], list[int]]:
    return counts.iloc[:, 0].tolist(), counts.iloc[:, 1].tolist()
