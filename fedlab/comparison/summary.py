"""What each run of a comparison came to, and each arm of it over the seeds, from the tidy table."""

import math

import pandas as pd

from fedlab.metrics.verdict import success_above_chance

ARM = ["defense", "rule"]

MEASURES = (
    *("accuracy", "attack_success_rate", "chance_success_rate", "success_above_chance"),
    *("psnr", "chance_psnr", "above_chance", "seconds"),
)

EPSILONS = ("epsilon_protected", "epsilon_total")


def strongest_attacks(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the attack that rebuilds most from each arm, and those of arms without any.

    That is the one with the largest share of leaking images and, among equals, as
    ``fedlab.results.attacks.strongest_label`` has it. What a malicious server sees is
    left out where an honest but curious one attacks as well: the two are never compared. An arm in
    which nobody could be attacked keeps the first of its attacks.
    """
    # Arms and attacks stay in the order of the frame, which is the order asked for.
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
    order = ranked.sort_values(ranks, ascending=False, kind="stable")
    best = order.drop_duplicates(ARM)
    return frame.merge(best[[*ARM, "attack"]], on=[*ARM, "attack"])


def per_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """What each run came to, under the attack that is strongest against its arm.

    Args:
        frame: Of a comparison, with at least one row.

    Returns:
        A row for each defense, rule and seed: ``attack``; ``accuracy``, ``attack_success_rate``,
        ``chance_success_rate`` and ``success_above_chance``, what the attack reaches of what chance
        leaves open, after the last round; ``psnr``, ``chance_psnr`` and
        ``above_chance`` in dB, medians over attacked clients and rounds, NaN where nobody was
        attacked; ``images`` that were attacked and how many of them are ``leaking``;
        ``epsilon_protected`` and ``epsilon_total``, the largest over clients that are honest
        throughout, or over all where nobody is; the same over attacked clients, with ``attacked_``
        in front; the ``unit`` that these hide, their
        ``adjacency`` and ``delta``; and ``seconds`` of all rounds, attacks included.
    """
    rows = strongest_attacks(frame)
    found = []
    for (defense, rule, seed), run in rows.groupby([*ARM, "seed"], sort=False):
        last = run[run["round"] == run["round"].max()].iloc[0]
        clients = run.groupby("client")
        # Of each client the last value: in a round that it declined it has none.
        epsilons = clients[list(EPSILONS)].last()
        ever_else = run.loc[run["role"] != "honest", "client"]
        honest = epsilons[~epsilons.index.isin(ever_else)]
        attacked = epsilons[epsilons.index.isin(run.loc[run["images"] > 0, "client"])]
        accounted = run[run["epsilon_protected"].notna()]
        line = {
            "defense": defense,
            "rule": rule,
            "seed": seed,
            "attack": last["attack"],
            "accuracy": last["accuracy"],
            "attack_success_rate": last["attack_success_rate"],
            "chance_success_rate": last["chance_success_rate"],
            "success_above_chance": success_above_chance(
                last["attack_success_rate"], last["chance_success_rate"]
            ),
            "images": int(run["images"].sum()),
            "leaking": int(run["leaking"].sum()),
            "seconds": run.drop_duplicates("round")["seconds"].sum(),
        }
        for name in ("psnr", "chance_psnr", "above_chance"):
            line[name] = run[name].median()
        for name in EPSILONS:
            line[name] = (honest if len(honest) else epsilons)[name].max()
            line[f"attacked_{name}"] = attacked[name].max()
        for name, nothing in (("unit", None), ("adjacency", None), ("delta", math.nan)):
            line[name] = accounted[name].iloc[0] if len(accounted) else nothing
        found.append(line)
    return pd.DataFrame(found)


def summary_of(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each arm: medians over seeds, with the lowest and the highest.

    Args:
        frame: Of a comparison, with at least one row.

    Returns:
        ``defense``, ``rule``, ``seeds``, ``attack``; ``accuracy``, ``attack_success_rate``,
        ``chance_success_rate``, ``success_above_chance``, ``psnr``, ``chance_psnr``,
        ``above_chance`` and ``seconds`` with
        ``_min`` and ``_max`` of each; ``images`` and ``leaking`` of all seeds; and the largest
        epsilons with what they are about. See ``per_seed``.
    """
    runs = per_seed(frame)
    groups = runs.groupby(ARM, sort=False)
    parts = [groups.size().rename("seeds"), groups["attack"].first()]
    for measure in MEASURES:
        values = groups[measure]
        parts.append(values.median())
        parts += [values.min().rename(f"{measure}_min"), values.max().rename(f"{measure}_max")]
    parts += [groups["images"].sum(), groups["leaking"].sum()]
    parts += [groups[f"{who}{name}"].max() for who in ("", "attacked_") for name in EPSILONS]
    parts += [groups[name].first() for name in ("unit", "adjacency", "delta")]
    return pd.concat(parts, axis=1).reset_index()
