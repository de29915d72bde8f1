"""Verdicts on a run: what leaked, what was poisoned, and what privacy was spent.

``fedlab.metrics.verdict`` defines the grades of an image and a success. Nothing is ever called
"safe", since another attack may do better.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from fedlab.core.schedule import resolve_clients, resolve_rounds
from fedlab.metrics.verdict import (
    INCONCLUSIVE,
    NOT_SHOWN,
    RECOGNISABLE,
    SUCCEEDS,
    success_above_chance,
)
from fedlab.privacy.accounts import ACCOUNTS, Account
from fedlab.privacy.ledger import Ledger
from fedlab.report.tables.ceilings import ceiling_sentences
from fedlab.report.tables.ledger import accounts_without_total
from fedlab.report.tables.naming import spelled, under
from fedlab.report.tables.numbers import counted, decibels, interval, listed, number
from fedlab.report.verdicts.counts import (
    choice_sentence,
    grades_text,
    power_sentence,
    share_sentence,
    skipped_sentence,
)
from fedlab.results.attacks import (
    best_of_each,
    counted_images,
    leaking_images,
    payload_mismatches,
    scored_images,
    strongest_label,
)
from fedlab.results.rows import RoundRow
from fedlab.scenario.roles import Poisoning
from fedlab.scenario.scenario import Scenario

MOST_CASES = 12
"""Largest number of updates that a sentence names one by one."""


class Verdict(NamedTuple):
    """The verdict on one threat.

    Attributes:
        threat: ``Leak``, ``Poison``, ``Privacy spent`` or ``Payload check``; a malicious server is
            named after a comma.
        word: ``leaks``, ``recognisable``, ``not shown``, ``inconclusive``, ``succeeds``, an epsilon
            or ``mismatch``.
        sentence: One or more sentences with counts, numbers, units and circumstances.
    """

    threat: str
    word: str
    sentence: str


class StrongestAttack(NamedTuple):
    """The attack that leaks the largest share of images and, among equals, is most above chance.

    Attributes:
        name: Preset, and whether labels were known or inferred.
        rows: Its rows of the leakage table, one for each image.
        leaking: Number of images that leak.
        psnr: Median PSNR in dB of the leaking images, or of all if none leaks; NaN if nothing was
            reconstructed.
        chance: Median chance PSNR of the same images in dB.
    """

    name: str
    rows: pd.DataFrame
    leaking: int
    psnr: float
    chance: float


def leak_verdicts(leakage: pd.DataFrame) -> list[Verdict]:
    """Verdicts on an honest but curious server and on a malicious one, as far as they attack.

    A payload that its replay does not confirm adds a verdict of its own.

    Args:
        leakage: The leakage table of a run.
    """
    nothing = "The server attacked no update, so nothing is known about what updates leak."
    return verdicts_by_server(leakage, _leak, nothing)


def verdicts_by_server(
    leakage: pd.DataFrame, describe: Callable[[pd.DataFrame], tuple[str, str]], nothing: str
) -> list[Verdict]:
    """Verdicts on the leaks to each kind of server, and on payloads.

    Args:
        leakage: The leakage table of a run or a comparison.
        describe: Function that returns the word and the sentences on rows of ``scored_images``.
        nothing: Sentence for a table without attacks.
    """
    found = [
        Verdict("Leak" + ", malicious server" * (threat == "malicious"), *describe(rows))
        for threat, rows in scored_images(leakage).groupby("threat")
    ]
    first, *others = found or [Verdict("Leak", INCONCLUSIVE, nothing if leakage.empty else "")]
    sentence = " ".join(filter(None, [first.sentence, skipped_sentence(leakage)])) or nothing
    return [first._replace(sentence=sentence), *others, *payload_verdicts(leakage)]


def payload_verdicts(leakage: pd.DataFrame) -> list[Verdict]:
    """A verdict on payloads that differ from their replay; none if all agree."""
    sentence = mismatch_sentence(leakage)
    return [Verdict("Payload check", "mismatch", sentence)] if sentence else []


def mismatch_sentence(leakage: pd.DataFrame) -> str:
    """Name the captured updates that differ from their replay; empty if there is none.

    Args:
        leakage: The leakage table of a run or a comparison.
    """
    cases = [
        f"round {row.pop('round')} client {row.pop('client')} "
        f"(cosine {row.pop('payload_cosine'):.3f}{_names(row)})"
        for row in payload_mismatches(leakage).to_dict("records")
    ]
    if not cases:
        return ""
    if len(cases) > MOST_CASES:
        more = f"{len(cases) - MOST_CASES:,} further updates (payload_cosine in leakage.csv)"
        cases[MOST_CASES:] = [more]
    return (
        f"The update that was captured differs from the replay of the client's training in "
        f"{listed(cases)}; the scores there may compare with images that the client did not use."
    )


def _names(run: Mapping[Hashable, Any]) -> str:
    """The columns that identify a run of a comparison, each after a comma; a run alone has none."""
    return "".join(f", {name} {value}" for name, value in run.items() if value != "")


def strongest_attack(rows: pd.DataFrame) -> StrongestAttack:
    """The strongest attack in at least one row of ``scored_images``."""
    name, best = strongest_label(rows), best_of_each(rows)
    own = best[best["attack"] == name]
    leaking = int(own["leaks"].sum())
    counting = own[own["leaks"]] if leaking else own
    medians = counting[["psnr", "chance_psnr"]].median()
    return StrongestAttack(name, own, leaking, medians["psnr"], medians["chance_psnr"])


def setting_sentence(rows: pd.DataFrame) -> str:
    """State whether attacks were diagnostic or realistic, and why they were diagnostic."""
    counts = rows["reasons"].astype(str).str.split(", ").explode().value_counts(sort=False)
    why = [
        str(reason) + ("" if count == len(rows) else f" in {count} of {len(rows)}")
        for reason, count in counts.items()
        if reason
    ]
    settings = " and ".join(sorted(set(rows["setting"])))
    return f"The setting is {settings}{': ' * bool(why)}{', '.join(why)}."


def poison_verdict(scenario: Scenario, rounds: Sequence[RoundRow]) -> Verdict:
    """Verdict on what poisoning clients reached by the end of a run.

    Args:
        scenario: The experiment.
        rounds: Rows of the rounds from round 0 on; at least one.
    """
    if not scenario.poisons:
        sentence = "No client poisons, so nothing is known about what poisoning would do."
        return Verdict("Poison", NOT_SHOWN, sentence)
    first, last = rounds[0], rounds[-1]
    who = "; ".join(_poisoners(scenario, entry) for entry in scenario.poisons)
    recall = f", recall of the worst class is {last.worst_recall:.2f}"
    model = f"accuracy is {last.accuracy:.3f}" + recall * math.isfinite(last.worst_recall or 0)
    rates = {row.round: row.attack_success_rate for row in rounds}
    known = {round: rate for round, rate in rates.items() if rate is not None and rate == rate}
    word = NOT_SHOWN
    if last.round in known:
        rate, chance = known[last.round], last.chance_success_rate
        highest = max(known, key=lambda round: known[round])
        beside = "chance is not known" if chance is None else f"chance is {chance:.2f}"
        several = " of the attack furthest above chance" if len(scenario.poisons) > 1 else ""
        before = f" and {known[first.round]:.2f} before round 1" if first.round in known else ""
        if success_above_chance(rate, math.nan if chance is None else chance) >= SUCCEEDS:
            word = "succeeds"
        result = (
            f"After round {last.round} the attack success rate{several} is {rate:.2f}, where "
            f"{beside}; it was highest at {known[highest]:.2f} after round {highest}{before}. At "
            f"the end {model}."
        )
    else:
        best = max(rounds, key=lambda row: row.accuracy)
        result = (
            f"It targets no class and so has no success rate. After round {last.round} {model}; "
            f"the highest accuracy was {best.accuracy:.3f} after round {best.round}. Compare with "
            "a run without the poisoning."
        )
    run = f"This is one run with seed {scenario.seed}."
    return Verdict("Poison", word, f"The attack is {who}. {result} {run}")


def attack_names(entry: Poisoning) -> str:
    """Names of a poisoning client's attacks on its data, its update and its claimed weight."""
    names: list[str] = [e.attack for e in (entry.data, entry.update) if e is not None]
    if entry.claims is not None:
        names.append(f"a claim of {entry.claims:,} examples")
    return " with ".join(names)


def privacy_verdict(ledger: Ledger) -> Verdict:
    """Verdict on the privacy that clients have spent, in each account in use."""
    clients = sorted(client for client, history in ledger.histories.items() if history)
    if not clients:
        return Verdict("Privacy spent", "nothing", "No client has sent anything yet.")
    sentences = [_spent(ledger, account, clients) for account in ledger.accounts]
    for account in accounts_without_total(ledger):
        rows = [row for row in ledger.rows() if row.mechanism == account.mechanism]
        most = number(max((row.epsilon_round for row in rows if row.epsilon_round), default=None))
        worth = listed(sorted({row.statement for row in rows}))
        sentences.append(
            f"The bound of {account.mechanism}, up to ε {most} a round, is {worth} and enters no "
            "total."
        )
    sentences += ceiling_sentences(ledger)
    return Verdict("Privacy spent", _totals(ledger, clients), " ".join(sentences))


def _totals(ledger: Ledger, clients: Sequence[int]) -> str:
    """The range of totals in each account, since epsilons of two units are not comparable.

    A client counts in the accounts that protected it, and in all accounts if none did.
    """
    spent = {
        client: [a for a in ledger.accounts if ledger.protected(client, a) is not None]
        for client in clients
    }
    used = [account for account in ledger.accounts if any(account in s for s in spent.values())]
    if not used:
        return "ε ∞"
    units = [account.unit for account in used]
    parts = []
    for account in used:
        totals = [ledger.total(c, account) for c, own in spent.items() if account in own or not own]
        adjacency = f" ({account.adjacency})" if units.count(account.unit) > 1 else ""
        parts.append(
            f"{interval(number(min(totals)), number(max(totals)))} of one {account.unit}{adjacency}"
        )
    deltas = dict.fromkeys(f"δ = {_delta(ledger, account):g}" for account in used)
    return f"ε {'; '.join(parts)} ({' or '.join(deltas)})"


def _delta(ledger: Ledger, account: Account) -> float:
    """Delta of an account's epsilons; epsilons that mechanisms state themselves hold at 0."""
    return 0.0 if account.composition == "sum" else ledger.delta


def _leak(rows: pd.DataFrame) -> tuple[str, str]:
    found = counted_images(rows)
    leaking, images = found.leaking, found.images
    best = strongest_attack(rows)
    if found.skipped == images:
        return INCONCLUSIVE, f"The server could attack none of {counted(images, 'image')}."
    none = {
        NOT_SHOWN: "No leak is shown for",
        RECOGNISABLE: "No leak by PSNR is shown for",
        INCONCLUSIVE: "Nothing can be concluded about",
    }
    rest = grades_text(found)
    sentences = [
        f"{none.get(found.grade, '')} {counted(images, 'image')}{rest}; another attack "
        "may do better."
    ]
    if leaking:
        shown: list[str] = []
        hidden: list[str] = []
        for defenses, each in rows.groupby("defenses", sort=False):
            some, all = leaking_images(each)
            more = grades_text(counted_images(each))
            (shown if some else hidden).append(f"{under(str(defenses))} ({some} of {all}{more})")
        where = f": {listed(shown)}" * (len(shown + hidden) > 1)
        verb = "leaks" if images == 1 else "leak"
        more = rest * (len(shown + hidden) == 1)
        sentences = [f"{leaking} of {counted(images, 'image')} {verb}{more}{where}."]
        sentences += [f"No leak is shown {listed(hidden)}."] if hidden else []
    sentences.append(share_sentence(rows, "client"))
    n = len(best.rows)
    leaks = f"leaks {best.leaking} of {counted(n, 'image')} with" if best.leaking else "reaches"
    sentences += [
        f"The strongest attack is {best.name}. It {leaks} a median PSNR of {decibels(best.psnr)}, "
        f"where chance is {decibels(best.chance)}{f' (n = {n})' * (not best.leaking)}.",
        *filter(None, [power_sentence(best.rows), choice_sentence(best.rows)]),
        setting_sentence(best.rows),
    ]
    realistic = rows[rows["setting"] == "realistic"]
    if 0 < len(realistic) < len(rows):
        some, all = leaking_images(realistic)
        sentences.append(f"In the realistic setting {some} of {all} leak.")
    return found.grade, " ".join(sentences)


def _poisoners(scenario: Scenario, entry: Poisoning) -> str:
    clients = resolve_clients(entry.clients, scenario.data.clients)
    rounds = resolve_rounds(entry.rounds, scenario.rounds)
    return (
        f"{attack_names(entry)} by {len(clients)} of {counted(scenario.data.clients, 'client')} in "
        f"round{'s' * (len(rounds) > 1)} {spelled(rounds)}"
    )


def _spent(ledger: Ledger, account: Account, clients: Sequence[int]) -> str:
    totals = {client: ledger.total(client, account) for client in clients}
    bounded = [client for client, total in totals.items() if math.isfinite(total)]
    unbounded = [client for client in clients if client not in bounded]
    everyone = counted(len(clients), "client")

    def largest(who: Sequence[int]) -> str:
        epsilons = (ledger.protected(client, account) for client in who)
        return number(max((each for each in epsilons if each is not None), default=None))

    if not ledger.protects(account):
        return (
            f"None of the {everyone} ran a mechanism with an ε of its own, so every total is "
            "infinite."
        )
    claim = "" if account.mechanism in ACCOUNTS else ", as its author claims"
    about = (
        f"With one {account.unit} protected by {account.mechanism} ({account.adjacency}{claim}) at "
        f"δ = {_delta(ledger, account):g},"
    )
    without = f"also took part without {account.mechanism}"
    if not bounded:
        return (
            f"{about} protected rounds cost a client at most ε {largest(clients)}; every total is "
            f"infinite, since every client {without}."
        )
    most = number(max(totals[client] for client in bounded))
    if not unbounded:
        return f"{about} the total of each of the {everyone} is at most ε {most}."
    cost = largest(unbounded)
    protected = "" if cost == "-" else f"; their protected rounds cost at most ε {cost}"
    return (
        f"{about} the total of client{'s' * (len(bounded) > 1)} {spelled(bounded)} is at most "
        f"ε {most}. The total of {counted(len(unbounded), 'other client')} is infinite, since "
        f"{'it' if len(unbounded) == 1 else 'they'} {without}{protected}."
    )
