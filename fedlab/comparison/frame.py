"""The tidy table of a comparison: one row for each defense, rule, seed, attack, round, client."""

from collections.abc import Sequence

import pandas as pd

from fedlab.comparison.sweep import COLUMN
from fedlab.metrics.verdict import INCONCLUSIVE, RECOGNISABLE
from fedlab.privacy.accounts import CLIENT, EXAMPLE, IMAGE
from fedlab.results.attacks import attack_labels, best_of_each
from fedlab.results.folder import RunFolder
from fedlab.results.rows import LeakageRow, columns_of

NOBODY = ""
"""Label of the attack in a comparison without attacks."""

_FIRST = {account.mechanism: place for place, account in enumerate((EXAMPLE, CLIENT, IMAGE))}
"""Order of the accounts; a client in several of them shows the first."""

_COUNTS = ("images", "leaking", "recognisable", "inconclusive", "skipped", "labels_guessed")
"""Columns with numbers of images."""

_OF_IMAGES = (
    *_COUNTS,
    *("psnr", "ssim", "chance_psnr", "above_chance", "identification", "power"),
    *("identified", "ceiling_identified"),
)

COLUMNS = (
    *("scenario", "defense", "rule", "grid", "seed", "attack"),
    *("round", "client", "role", "defenses"),
    *("status", "selected", "update_norm"),
    *("accuracy", "worst_recall", "attack_success_rate", "chance_success_rate"),
    *_OF_IMAGES,
    *("setting", "threat", "epsilon_round", "epsilon_protected", "epsilon_total"),
    *("unit", "adjacency", "delta", "seconds", "cpu_seconds"),
)


def leakage_of(run: RunFolder) -> pd.DataFrame:
    """The leakage table of a run, with the label of the attack as first column."""
    table = run.table("leakage")
    table.insert(0, "attack", attack_labels(table))
    return table


def further_metrics(leakage: pd.DataFrame) -> list[str]:
    """Columns of the metrics that the scenario adds, such as those of plug-ins."""
    known = {*COLUMNS, *columns_of(LeakageRow), "attack"}
    names = map(str, leakage.columns)
    return [name for name in names if name not in known and not name.startswith(COLUMN)]


def rows_of(run: RunFolder, attacks: Sequence[str]) -> pd.DataFrame:
    """The rows of a run, one for each round, client and attack.

    Args:
        run: Folder of a run that has ended at least one round.
        attacks: Labels of all attacks of the comparison. A row counts no images if the attack was
            not run on the client in that round.
    """
    clients = run.table("clients")[
        ["round", "client", "role", "defenses", "status", "selected", "update_norm"]
    ]
    rounds = pd.DataFrame([vars(row) for row in run.rounds()]).drop(columns="loss")
    table = clients.merge(pd.DataFrame({"attack": list(attacks) or [NOBODY]}), how="cross")
    table = table.merge(rounds, on="round", how="left")
    table = table.merge(_scores(leakage_of(run)), on=["round", "client", "attack"], how="left")
    table = table.merge(_epsilons(run), on=["round", "client"], how="left")
    return table.assign(
        **{name: table[name].fillna(0).astype(int) for name in _COUNTS},
        attack_success_rate=table["attack_success_rate"].astype(float),
        chance_success_rate=table["chance_success_rate"].astype(float),
        cpu_seconds=table["cpu_seconds"].astype(float),
        selected=table["selected"].astype(object).fillna(""),
    )


def _scores(leakage: pd.DataFrame) -> pd.DataFrame:
    """Counts and medians over the images, by round, client and attack; power is the lowest.

    Metrics that the scenario adds are medians as well.

    Where something was rebuilt, ``identified`` is the share of images that are the nearest of their
    pool, and ``ceiling_identified`` the mean of what it can be at most.
    """
    originals = best_of_each(leakage)
    originals["above_chance"] = originals["psnr"] - originals["chance_psnr"]
    groups = originals.groupby(["round", "client", "attack"])
    measured = ["psnr", "ssim", "chance_psnr", "above_chance", "identification"]
    medians = groups[measured + further_metrics(leakage)].median()
    words = groups[["setting", "threat"]].first()
    counts = pd.DataFrame(
        {
            "images": groups.size(),
            "leaking": groups["leaks"].sum(),
            "recognisable": groups["verdict"].agg(lambda each: (each == RECOGNISABLE).sum()),
            "inconclusive": groups["verdict"].agg(lambda each: (each == INCONCLUSIVE).sum()),
            "skipped": groups["skipped"].agg(lambda each: (each != "").sum()),
            "labels_guessed": groups["labels_guessed"].sum(),
            "power": groups["power"].min(),
            "identified": groups["iip"].mean(),
            "ceiling_identified": groups["ceiling_identified"].mean(),
        }
    )
    return pd.concat([counts, medians, words], axis=1).reset_index()


def _epsilons(run: RunFolder) -> pd.DataFrame:
    """The privacy account of each client after each round, at its last participation in it."""
    ledger = run.table("ledger")
    order = ledger["mechanism"].map(_FIRST).fillna(len(_FIRST))
    ordered = ledger.assign(order=order, participation=-ledger["participation"])
    ordered = ordered.sort_values(["round", "client", "participation", "order"], kind="stable")
    epsilons = ["epsilon_round", "epsilon_protected", "epsilon_total"]
    columns = ["round", "client", *epsilons, "unit", "adjacency", "delta"]
    return ordered.drop_duplicates(["round", "client"])[columns]
