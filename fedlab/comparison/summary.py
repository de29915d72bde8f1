"""What each defense buys and costs: the tidy table of a comparison in a line for each arm."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from fedlab.report.numbers import number

ARM = ["defense", "rule"]

_MEASURES = ("accuracy", "attack_success_rate", "psnr", "above_chance")


def strongest_attacks(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the attack that rebuilds most from each arm, and those of arms without any.

    That is the one with the highest median of PSNR above chance, over all rounds, clients and
    seeds; an arm in which nobody could be attacked keeps the first of its attacks.
    """
    # Arms and attacks stay in the order of the frame, which is the order asked for.
    medians = frame.groupby([*ARM, "attack"], sort=False)["above_chance"].median()
    ranked = medians.fillna(-math.inf).reset_index()
    best = ranked.loc[ranked.groupby(ARM, sort=False)["above_chance"].idxmax()]
    return frame.merge(best[[*ARM, "attack"]], on=[*ARM, "attack"])


def per_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """What each run came to, under the attack that is strongest against its arm.

    Args:
        frame: Of a comparison.

    Returns:
        A row for each defense, rule and seed: ``attack``; ``accuracy`` and ``attack_success_rate``
        after the last round; ``psnr`` and ``above_chance`` in dB, medians over attacked clients and
        rounds, NaN where nobody was attacked; ``images`` that were attacked and how many of them
        are ``leaking``; ``epsilon``, the largest over clients that are honest throughout, and
        whether it is ``epsilon_total``, or that of protected rounds only; and median ``seconds`` of
        a round, attacks included.
    """
    rows = strongest_attacks(frame)
    found = []
    for (defense, rule, seed), run in rows.groupby([*ARM, "seed"], sort=False):
        last = run[run["round"] == run["round"].max()].iloc[0]
        epsilon, total = _epsilon(run)
        found.append(
            {
                "defense": defense,
                "rule": rule,
                "seed": seed,
                "attack": last["attack"],
                "accuracy": last["accuracy"],
                "attack_success_rate": last["attack_success_rate"],
                "psnr": run["psnr"].median(),
                "above_chance": run["above_chance"].median(),
                "images": int(run["images"].sum()),
                "leaking": int(run["leaking"].sum()),
                "epsilon": epsilon,
                "epsilon_total": total,
                "seconds": run.groupby("round")["seconds"].first().median(),
            }
        )
    return pd.DataFrame(found)


def summary_of(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each arm: medians over seeds, with the lowest and the highest.

    Args:
        frame: Of a comparison.

    Returns:
        ``defense``, ``rule``, ``seeds``, ``attack``; ``accuracy``, ``attack_success_rate``,
        ``psnr`` and ``above_chance`` with ``_min`` and ``_max`` of each; ``images`` and
        ``leaking`` of all seeds; the largest ``epsilon`` and whether it is ``epsilon_total``; and
        ``time``, seconds of a round as a multiple of those in the first arm.
    """
    runs = per_seed(frame)
    groups = runs.groupby(ARM, sort=False)
    parts = [groups.size().rename("seeds"), groups["attack"].first()]
    for measure in _MEASURES:
        values = groups[measure]
        parts.append(values.median())
        parts += [values.min().rename(f"{measure}_min"), values.max().rename(f"{measure}_max")]
    parts += [groups["images"].sum(), groups["leaking"].sum()]
    parts += [groups["epsilon"].max(), groups["epsilon_total"].all()]
    seconds = groups["seconds"].median()
    parts.append((seconds / seconds.iloc[0]).rename("time"))
    return pd.concat(parts, axis=1).reset_index()


def summary_table(summary: pd.DataFrame, *, title: str) -> Table:
    """The summary as text.

    Args:
        summary: See ``summary_of``.
        title: The question that it answers.
    """
    several = summary["rule"].nunique() > 1
    table = Table(
        title=title,
        caption=(
            "Medians over seeds (lowest to highest); accuracy and attack success after the last "
            "round; PSNR of the attack that rebuilds most; ε: largest over honest clients, with ° "
            "of protected rounds only, the total being infinite; time of a round, attacks "
            "included, beside the first line's."
        ),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("defense")
    if several:
        table.add_column("rule")
    for header in ("seeds", "accuracy", "attack\nsuccess", "PSNR dB\nabove chance", "leak"):
        table.add_column(header, justify="right")
    table.add_column("attack")
    for header in ("ε", "time"):
        table.add_column(header, justify="right")
    for row in summary.to_dict("records"):
        table.add_row(
            row["defense"],
            *([row["rule"]] if several else []),
            str(row["seeds"]),
            spread(row, "accuracy", ".3f"),
            spread(row, "attack_success_rate", ".2f"),
            spread(row, "above_chance", "+.1f"),
            f"{row['leaking']}/{row['images']}" if row["images"] else "-",
            row["attack"] if row["images"] else "nobody attacked",
            epsilon_text(row["epsilon"], total=row["epsilon_total"]),
            f"{row['time']:.2f}",
        )
    return table


def spread(row: Mapping[Hashable, Any], measure: str, form: str) -> str:
    """A median with the lowest and the highest, or a dash where there is none."""
    middle, low, high = (row[f"{measure}{end}"] for end in ("", "_min", "_max"))
    if math.isnan(middle):
        return "-"
    text = format(middle, form)
    return text if low == high else f"{text}\n({low:{form}} to {high:{form}})"


def epsilon_text(epsilon: float, *, total: bool) -> str:
    """An epsilon, marked where it leaves open rounds out."""
    if math.isnan(epsilon):
        return "-"
    return number(epsilon) + ("" if total else "°")


def _epsilon(run: pd.DataFrame) -> tuple[float, bool]:
    """The largest over honest clients, and whether it is of all that they sent.

    Where open rounds make that infinite, it is of protected rounds, if there were any.
    """
    honest = run.groupby("client")["role"].transform(lambda roles: (roles == "honest").all())
    own = run[honest & run["epsilon_total"].notna()]
    last = own.sort_values("round").drop_duplicates("client", keep="last")
    if last.empty:
        return math.nan, False
    if math.isfinite(total := last["epsilon_total"].max()):
        return total, True
    protected = last["epsilon_protected"].max()
    return (math.inf, True) if math.isnan(protected) else (protected, False)
