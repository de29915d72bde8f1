"""What each run of a comparison came to, and each arm of it over the seeds, from the tidy table."""

import math

import pandas as pd

ARM = ["defense", "rule"]

MEASURES = ("accuracy", "attack_success_rate", "psnr", "chance_psnr", "above_chance", "seconds")


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
        frame: Of a comparison, with at least one row.

    Returns:
        A row for each defense, rule and seed: ``attack``; ``accuracy`` and ``attack_success_rate``
        after the last round; ``psnr``, ``chance_psnr`` and ``above_chance`` in dB, medians over
        attacked clients and rounds, NaN where nobody was attacked; ``images`` that were attacked
        and how many of them are ``leaking``; ``epsilon_protected`` and ``epsilon_total``, the
        largest over clients that are honest throughout; and ``seconds`` of all rounds, attacks
        included.
    """
    rows = strongest_attacks(frame)
    found = []
    for (defense, rule, seed), run in rows.groupby([*ARM, "seed"], sort=False):
        last = run[run["round"] == run["round"].max()].iloc[0]
        honest = run.groupby("client")["role"].transform(lambda roles: (roles == "honest").all())
        ends = run[honest].sort_values("round").drop_duplicates("client", keep="last")
        found.append(
            {
                "defense": defense,
                "rule": rule,
                "seed": seed,
                "attack": last["attack"],
                "accuracy": last["accuracy"],
                "attack_success_rate": last["attack_success_rate"],
                **run[["psnr", "chance_psnr", "above_chance"]].median().to_dict(),
                "images": int(run["images"].sum()),
                "leaking": int(run["leaking"].sum()),
                "epsilon_protected": ends["epsilon_protected"].max(),
                "epsilon_total": ends["epsilon_total"].max(),
                "seconds": run.drop_duplicates("round")["seconds"].sum(),
            }
        )
    return pd.DataFrame(found)


def summary_of(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each arm: medians over seeds, with the lowest and the highest.

    Args:
        frame: Of a comparison, with at least one row.

    Returns:
        ``defense``, ``rule``, ``seeds``, ``attack``; ``accuracy``, ``attack_success_rate``,
        ``psnr``, ``chance_psnr``, ``above_chance`` and ``seconds`` with ``_min`` and ``_max`` of
        each; ``images`` and ``leaking`` of all seeds; and the largest ``epsilon_protected`` and
        ``epsilon_total``. See ``per_seed``.
    """
    runs = per_seed(frame)
    groups = runs.groupby(ARM, sort=False)
    parts = [groups.size().rename("seeds"), groups["attack"].first()]
    for measure in MEASURES:
        values = groups[measure]
        parts.append(values.median())
        parts += [values.min().rename(f"{measure}_min"), values.max().rename(f"{measure}_max")]
    parts += [groups["images"].sum(), groups["leaking"].sum()]
    parts += [groups["epsilon_protected"].max(), groups["epsilon_total"].max()]
    return pd.concat(parts, axis=1).reset_index()
