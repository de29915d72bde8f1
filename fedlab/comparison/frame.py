"""A comparison as one tidy table: a row for each defense, rule, seed, attack, round and client."""

from collections.abc import Sequence

import pandas as pd

from fedlab.privacy.accounts import CLIENT, EXAMPLE, IMAGE
from fedlab.results.attacks import attack_labels, best_of_each
from fedlab.results.folder import RunFolder

NOBODY = ""
"""The attack of a comparison in which nobody is attacked."""

_FIRST = {account.mechanism: place for place, account in enumerate((EXAMPLE, CLIENT, IMAGE))}
"""Of a participation in several accounts, the row that is told."""

_OF_IMAGES = ("images", "leaking", "psnr", "ssim", "chance_psnr", "above_chance", "identification")

COLUMNS = (
    *("scenario", "defense", "rule", "seed", "attack", "round", "client", "role", "defenses"),
    *("status", "selected", "update_norm"),
    *("accuracy", "worst_recall", "attack_success_rate", "chance_success_rate"),
    *_OF_IMAGES,
    *("setting", "threat", "epsilon_round", "epsilon_protected", "epsilon_total"),
    *("unit", "adjacency", "delta", "seconds"),
)


def leakage_of(run: RunFolder) -> pd.DataFrame:
    """The table of what was rebuilt, with the attack in words in front."""
    table = run.table("leakage")
    table.insert(0, "attack", attack_labels(table))
    return table


def rows_of(run: RunFolder, attacks: Sequence[str]) -> pd.DataFrame:
    """A run's rows, one for each round, client and attack.

    Args:
        run: That has ended at least one round.
        attacks: All attacks of the comparison; where one of them did not attack a client in a
            round, the row counts no images.
    """
    clients = run.table("clients")[
        ["round", "client", "role", "defenses", "status", "selected", "update_norm"]
    ]
    rounds = pd.DataFrame([vars(row) for row in run.rounds()]).drop(columns="loss")
    table = clients.merge(pd.DataFrame({"attack": list(attacks) or [NOBODY]}), how="cross")
    table = table.merge(rounds, on="round", how="left")
    table = table.merge(_scores(leakage_of(run)), on=["round", "client", "attack"], how="left")
    table = table.merge(_epsilons(run), on=["round", "client"], how="left")
    counts = table[["images", "leaking"]].fillna(0).astype(int)
    return table.assign(
        images=counts["images"],
        leaking=counts["leaking"],
        attack_success_rate=table["attack_success_rate"].astype(float),
        chance_success_rate=table["chance_success_rate"].astype(float),
        selected=table["selected"].astype(object).fillna(""),
    )


def _scores(leakage: pd.DataFrame) -> pd.DataFrame:
    """Medians over the images that an attack aimed at, by round, client and attack."""
    originals = best_of_each(leakage)
    originals["above_chance"] = originals["psnr"] - originals["chance_psnr"]
    groups = originals.groupby(["round", "client", "attack"])
    medians = groups[["psnr", "ssim", "chance_psnr", "above_chance", "identification"]].median()
    words = groups[["setting", "threat"]].first()
    counts = pd.DataFrame({"images": groups.size(), "leaking": groups["leaks"].sum()})
    return pd.concat([counts, medians, words], axis=1).reset_index()


def _epsilons(run: RunFolder) -> pd.DataFrame:
    """A client's account after each round, that of its last participation in it."""
    ledger = run.table("ledger")
    order = ledger["mechanism"].map(_FIRST).fillna(len(_FIRST))
    ordered = ledger.assign(order=order, participation=-ledger["participation"])
    ordered = ordered.sort_values(["round", "client", "participation", "order"], kind="stable")
    epsilons = ["epsilon_round", "epsilon_protected", "epsilon_total"]
    columns = ["round", "client", *epsilons, "unit", "adjacency", "delta"]
    return ordered.drop_duplicates(["round", "client"])[columns]
