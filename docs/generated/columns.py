"""The columns of the tables that a run and a comparison leave."""

from dataclasses import fields

from docs.generated.docstrings import entries
from fedlab.comparison.frame import COLUMNS
from fedlab.comparison.summary import MEASURES
from fedlab.privacy.ledger import LedgerRow
from fedlab.results.rows import ClientRow, LeakageRow, RoundRow

FILES = {
    "leakage.csv": (LeakageRow, "One row for each image of each attacked update."),
    "clients.csv": (ClientRow, "One row for each client in each round."),
    "rounds.jsonl": (RoundRow, "One object for each round, and one for the untrained network."),
    "ledger.csv": (LedgerRow, "One row for each mechanism in each participation of a client."),
}
"""Row class of each table of a run, and what a row is."""

COMPARED = {
    "scenario": "Name of the scenario.",
    "defense": "Defense of all clients, as `--defenses` names it.",
    "rule": "Aggregation rule.",
    "grid": "Values of the swept settings in words; empty without a sweep.",
    "seed": "Seed of the run.",
    "attack": "Preset and knowledge of the attack, such as `fast, labels known`; empty for none.",
    "images": "Number of images behind the client's update that the attack aimed at.",
    "leaking": "Number of images that leak.",
    "recognisable": "Number of images that do not leak but are recognisable.",
    "inconclusive": "Number of images of which the attack says nothing.",
    "skipped": "Number of images that were not attacked; they count as inconclusive.",
    "labels_guessed": "Number of images whose labels were guessed, since the update said nothing.",
    "above_chance": "`psnr` minus `chance_psnr`, in dB.",
    "psnr": "PSNR in dB after alignment (`aligned_psnr`), on pixels in [0, 1].",
    "seconds": "Wall time of the round in seconds, reconstructions included.",
    "identified": "Share of the images, in [0, 1], that are the nearest of their pool.",
}
"""Columns of ``comparison.csv`` that no table of a run has, or has in another meaning."""

SUMMARISED = {
    "seeds": "Number of seeds.",
    "success_above_chance": "Attack success corrected for chance: 0 is chance, 1 full success.",
    "clusters": "Number of attacked clients, summed over seeds.",
    "leaking_low": "Lower end of the 95 % interval of the leaking share, in [0, 1].",
    "leaking_high": "Upper end of the 95 % interval of the leaking share, in [0, 1].",
    "accuracy_change": "Accuracy minus that without a defense at the same settings, in [-1, 1].",
    "fewer_leaks": "Leaking share without a defense minus that under this one, in [-1, 1].",
    "fewer_leaks_low": "Lower end of its paired 95 % interval.",
    "fewer_leaks_high": "Upper end of its paired 95 % interval.",
    "attacked_epsilon_protected": "Largest `epsilon_protected` over attacked clients.",
    "attacked_epsilon_total": "Largest `epsilon_total` over attacked clients.",
}
"""Columns of ``summary.csv`` that ``comparison.csv`` lacks."""


def described() -> dict[str, str]:
    """Texts of all columns of a run's tables by name; ``leakage.csv`` comes first."""
    found: dict[str, str] = {}
    for row, _ in FILES.values():
        found = entries(row.__doc__, "Attributes") | found
    return found


def compared() -> dict[str, str]:
    """Texts of the columns of ``comparison.csv``, in their order."""
    known = described()
    return {name: COMPARED.get(name) or known[name] for name in COLUMNS}


def markdown() -> str:
    """All tables with their columns, for the reference."""
    parts = []
    for file, (row, what) in FILES.items():
        texts = entries(row.__doc__, "Attributes")
        names = [each.name for each in fields(row) if each.name != "extra"]
        parts += [f"## `{file}`\n", f"{what}\n", *_list({name: texts[name] for name in names})]
    parts += [
        "## `comparison.csv`\n",
        "One row for each defense, rule, swept setting, seed, attack, round and client. A column "
        "`grid.PATH` has the value of each swept setting. Scores of images are medians over the "
        "images of the row, and `power` is the lowest.\n",
        *_list(compared()),
        "## `summary.csv`\n",
        "One row for each defense, rule and swept setting, under the attack that leaks most, with "
        "columns of `comparison.csv` that hold for all its runs: counts are sums over seeds, "
        "epsilons the largest over honest clients. "
        f"{', '.join(f'`{name}`' for name in MEASURES)} are medians over seeds, each with "
        "its smallest and largest value in a column that ends with `_min` and `_max`. "
        "Further columns:\n",
        *_list(SUMMARISED),
    ]
    return "\n".join(parts)


def _list(texts: dict[str, str]) -> list[str]:
    return [f"`{name}`\n: {text}\n" for name, text in texts.items()]
