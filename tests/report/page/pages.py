"""Reading a page as a browser would, and a comparison to write one about."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

from fedlab.runs.folder import RunFolder
from fedlab.scenario import Scenario

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, and the text, of an HTML document whose tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._open = [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def asks_nobody(text):
    """Whether nothing in a text could make a browser ask anybody for anything."""
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in {"script", "iframe", "object", "embed"}
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert "url(" not in (value or "")
            if name in {"src", "href", "srcset", "action", "poster", "data"}:
                assert value.startswith(("data:", "#"))
    assert "://" not in text
    assert "@import" not in text
    return True


@dataclass
class Compared:
    """A comparison as its page sees it."""

    scenario: Scenario
    folder: Path
    defenses: tuple
    seeds: tuple
    runs: tuple
    frame: pd.DataFrame
    leakage: pd.DataFrame
    attacks: tuple = ()
    failures: dict = field(default_factory=dict)


@dataclass
class ComparedRun:
    defense: str
    rule: str
    seed: int
    folder: RunFolder


def compared(folder, scenario, runs):
    """A comparison of finished runs, by (defense, seed), with the tables that it would have."""
    made = tuple(ComparedRun(d, "FedAvg", seed, run) for (d, seed), run in runs.items())
    return Compared(
        scenario=scenario,
        folder=folder,
        defenses=tuple(dict.fromkeys(run.defense for run in made)),
        seeds=tuple(dict.fromkeys(run.seed for run in made)),
        runs=made,
        frame=pd.concat([_frame(run) for run in made], ignore_index=True),
        leakage=pd.concat([_leakage(run) for run in made], ignore_index=True),
    )


def _leakage(run):
    rows = run.folder.table("leakage")
    known = rows["known_labels"].map({True: ", labels known", False: ", labels inferred"})
    attack = rows["preset"] + known
    front = {"defense": run.defense, "rule": run.rule, "seed": run.seed, "attack": attack}
    return rows.assign(**front)[[*front, *rows.columns]]


def _frame(run):
    leakage = _leakage(run)
    scored = leakage[leakage["target"] == "original"]
    ledger = run.folder.table("ledger").groupby(["round", "client"]).first()
    rounds = {row.round: row for row in run.folder.rounds()}
    found = []
    for attack in sorted(set(scored["attack"])) or [""]:
        for each in run.folder.table("clients").itertuples():
            own = scored[
                (scored["attack"] == attack)
                & (scored["round"] == each.round)
                & (scored["client"] == each.client)
            ]
            spent = ledger.loc[(each.round, each.client)]
            model = rounds[each.round]
            found.append(
                {
                    "scenario": run.folder.scenario.name,
                    "defense": run.defense,
                    "rule": run.rule,
                    "seed": run.seed,
                    "attack": attack,
                    "round": each.round,
                    "client": each.client,
                    "role": each.role,
                    "accuracy": model.accuracy,
                    "worst_recall": model.worst_recall,
                    "attack_success_rate": model.attack_success_rate,
                    "images": len(own),
                    "leaking": int((own["verdict"] == "leaks").sum()),
                    "psnr": own["psnr"].median(),
                    "chance_psnr": own["chance_psnr"].median(),
                    "above_chance": (own["psnr"] - own["chance_psnr"]).median(),
                    "epsilon_protected": spent["epsilon_protected"],
                    "epsilon_total": spent["epsilon_total"],
                    "seconds": model.seconds,
                }
            )
    return pd.DataFrame(found)
