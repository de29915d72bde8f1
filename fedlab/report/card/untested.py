"""Sentences on what a run or a comparison did not test, each with its count."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fedlab.core.attack_plugins import PRESETS
from fedlab.defenses.base import DEFENSES
from fedlab.integrations.audit import Audit
from fedlab.report.tables.naming import spelled
from fedlab.report.tables.numbers import counted, listed
from fedlab.report.verdicts.audit import leakage_of
from fedlab.report.verdicts.taxonomy import untested_sentence
from fedlab.results.attacks import NO_IMAGE, UNKNOWN, GradeCounts, scored_images
from fedlab.scenario.scenario import Scenario

NO_MEMBERSHIP = (
    "No membership test is part of this page: that an image took part may be found out even where "
    "it cannot be reconstructed."
)

NO_USERS = "Attacks on the finished model by its users are not tested."

NO_POISONING = "No poisoning is tested."

UNADAPTED = frozenset({"ats", "dcs-2"})
"""Built-in defenses for which ``attacks.reconstruction.defended`` has no rule although one of an
attacker's own is conceivable."""


DAMAGED = "Which attacks ran and what they found is unknown, since leakage.csv is damaged."
"""What stands in place of every sentence that the leakage table would give."""


@dataclass(frozen=True)
class Tested:
    """What attacks and clients did in all runs of a subject.

    Attributes:
        scenarios: Scenarios of all runs.
        leakage: Leakage table of the subject; ``None`` if it is damaged.
        clients: Client tables of the runs, by folder name; ``None`` for a damaged table.
        counts: Images of each group of runs that is counted apart.
        letters: Letters of the threat models that were tested.
    """

    scenarios: Sequence[Scenario]
    leakage: pd.DataFrame | None
    clients: Mapping[str, pd.DataFrame | None]
    counts: Sequence[GradeCounts]
    letters: Sequence[str]


def untested(tested: Tested) -> list[str]:
    """Say what was not tested, so that silence is not read as a result."""
    leakage = tested.leakage
    about_attacks = (
        [DAMAGED]
        if leakage is None
        else [
            _attacks(leakage),
            _updates(leakage, tested.clients),
            _images(leakage, tested.counts),
            _setting(leakage),
            _power(leakage),
            _payloads(leakage),
            adaptation(tested.scenarios),
            untested_sentence(tested.letters),
        ]
    )
    sentences = [
        *about_attacks,
        f"{NO_MEMBERSHIP} {NO_USERS}",
        _poisoning(tested.scenarios),
        _audit(tested.scenarios),
    ]
    return [each for each in sentences if each]


def adaptation(scenarios: Sequence[Scenario]) -> str:
    """Name the defenses of some runs against which no attack has rules of its own."""
    ran = {entry.name for scenario in scenarios for entry in scenario.defenses}
    left = sorted(name for name in ran if name in UNADAPTED or not DEFENSES.is_builtin(name))
    if not left:
        return ""
    return (
        f"No attack has rules made for {listed(left)}; auto only chooses its settings under what "
        "clients run. An attack made for it may find more."
    )


def untested_of_audits(
    audits: Sequence[Audit], letters: Collection[str], captures: int
) -> list[str]:
    """Say what was not tested of another federation.

    Args:
        audits: Its audited updates.
        letters: Their threat models by letter.
        captures: Number of captured replies, attacked or not; 0 for an update from files.
    """
    leakage = leakage_of(audits)
    left = captures - len(audits)
    sentences = [
        f"{left} of {captures} captured replies were not attacked. "
        "Nothing is known about them." * (left > 0),
        *([_attacks(leakage), _setting(leakage), _power(leakage)] if audits else []),
        untested_sentence(letters),
        "" if all(audit.membership for audit in audits) and audits else NO_MEMBERSHIP,
        NO_USERS,
        NO_POISONING,
        "The results hold for these updates, this network and this training.",
    ]
    return [each for each in sentences if each]


def attacks_that_ran(leakage: pd.DataFrame) -> pd.DataFrame:
    """Rows of the leakage table without images that were skipped and updates without images.

    Args:
        leakage: Leakage table of a run or a comparison.
    """
    rows = leakage[leakage["target"] != NO_IMAGE]
    return rows[rows["skipped"].fillna("") == ""] if "skipped" in rows else rows


def _attacks(leakage: pd.DataFrame) -> str:
    used = set(attacks_that_ran(leakage)["preset"])
    others = [name for name in PRESETS.builtin if name not in used]
    of = counted(len(PRESETS.builtin), "built-in reconstruction attack")
    return f"{len(others)} of {of} did not run: {listed(others)}." if others else ""


def _updates(leakage: pd.DataFrame, clients: Mapping[str, pd.DataFrame | None]) -> str:
    """How many updates no attack was scheduled on, and of which clients and rounds all."""
    if any(table is None for table in clients.values()):
        return "How many updates were not attacked is unknown, since a clients.csv is damaged."
    tables = [table.assign(run=run) for run, table in clients.items() if table is not None]
    rows = pd.concat(tables)
    rows = rows[rows["status"] == "ok"]
    sent = set(zip(rows["run"], rows["round"], rows["client"], strict=True))
    attacked = set(zip(leakage["run"], leakage["round"], leakage["client"], strict=True))
    missed = sent - attacked
    if not missed:
        return ""
    rest = []
    for place, noun in ((2, "client"), (1, "round")):
        never = sorted({e[place] for e in missed} - {e[place] for e in attacked})
        if never and attacked:
            rest.append(f"{noun}{'s' * (len(never) > 1)} {spelled(never)}")
    never_any = f"; none of {listed(rest)} was" if rest else ""
    return (
        f"{len(missed)} of {counted(len(sent | attacked), 'update')} that clients sent were not "
        f"attacked{never_any}. Nothing is known about them."
    )


def _images(leakage: pd.DataFrame, counts: Sequence[GradeCounts]) -> str:
    skipped = sum(each.skipped for each in counts)
    images = sum(each.images for each in counts)
    unscored = int((leakage["target"] == UNKNOWN).sum())
    parts = []
    if skipped:
        parts.append(
            f"{skipped} of {counted(images, 'image')} behind attacked updates were not attacked; "
            "they count above."
        )
    if unscored:
        parts.append(f"{counted(unscored, 'reconstruction')} could not be scored.")
    return " ".join(parts)


def _setting(leakage: pd.DataFrame) -> str:
    rows = attacks_that_ran(scored_images(leakage))
    easy = rows[rows["setting"] == "diagnostic"]
    if easy.empty:
        return ""
    reasons = {each for words in easy["reasons"].astype(str) for each in words.split(", ") if each}
    why = f" ({listed(sorted(reasons))})" if reasons else ""
    who = "All" if len(easy) == len(rows) else f"{len(easy)} of {len(rows)}"
    return (
        f"{who} attacks on single images were easier than a real one{why}: these results are "
        "diagnostic."
    )


def _power(leakage: pd.DataFrame) -> str:
    rows = attacks_that_ran(scored_images(leakage))
    unknown = rows[rows["power"].isna()]
    if unknown.empty:
        return ""
    names = listed(list(dict.fromkeys(unknown["preset"])))
    return f"The power of {names} was not measured: where no leak is shown, it may be too weak."


def _payloads(leakage: pd.DataFrame) -> str:
    if leakage.empty or "payload_cosine" not in leakage:
        return ""
    cosines = pd.to_numeric(leakage["payload_cosine"], errors="coerce")
    checked = cosines.notna().groupby([leakage[e] for e in ("run", "round", "client")]).any()
    if checked.all():
        return ""
    return (
        f"{int((~checked).sum())} of {counted(len(checked), 'attacked update')} were not compared "
        "with a replay of the client's training."
    )


def _poisoning(scenarios: Sequence[Scenario]) -> str:
    if any(each.poisons for each in scenarios):
        return "Poisoning by other attacks or by more clients is not tested."
    return NO_POISONING


def _audit(scenarios: Sequence[Scenario]) -> str:
    if any(each.audit for each in scenarios):
        return ""
    return "No audit by canaries ran, so an ε is what its accounting states and was not measured."
