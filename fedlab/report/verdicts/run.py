"""What a run shows, threat by threat, in one sentence each, by stated rules and with the numbers.

A leak is what ``fedlab.metrics.verdict`` calls one. What was not found is "not shown" and never
"safe": another attack may do better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fedlab.core.schedule import resolve_clients, resolve_rounds, spell
from fedlab.metrics.verdict import SUCCEEDS, success_above_chance
from fedlab.privacy.accounts import IMAGE, Account
from fedlab.privacy.ledger import Ledger
from fedlab.report.tables.naming import under
from fedlab.report.tables.numbers import decibels, listed, number
from fedlab.results.attacks import attack_labels, best_of_each, strongest_label
from fedlab.results.rows import RoundRow
from fedlab.scenario.roles import Poisoning
from fedlab.scenario.scenario import Scenario

NOT_SHOWN = "not shown"


@dataclass(frozen=True)
class Verdict:
    """What was found of one threat.

    Attributes:
        threat: ``Leak``, ``Poison`` or ``Privacy spent``, with what sets it apart.
        word: ``leaks``, ``succeeds``, an epsilon, or ``not shown``.
        sentence: With n, numbers and circumstances.
    """

    threat: str
    word: str
    sentence: str


@dataclass(frozen=True)
class Strongest:
    """The attack that leaked the largest share of the images, then the one furthest above chance.

    Attributes:
        name: Its preset, and what it knew of the labels.
        rows: Its rows of the leakage table, one for each image.
        leaking: How many of them leak.
        psnr: Median over the leaking rows in dB, over all if none leaks; NaN without an image.
        chance: Of the same rows.
    """

    name: str
    rows: pd.DataFrame
    leaking: int
    psnr: float
    chance: float

    def __str__(self) -> str:
        ran = "reached" if not self.leaking else "leaks " + _of(self.leaking, len(self.rows))
        what = "" if not self.leaking else " images, these at"
        return (
            f"{self.name}, {ran}{what} a median PSNR of {decibels(self.psnr)} beside "
            f"{decibels(self.chance)} of chance"
        )


def leak_verdicts(leakage: pd.DataFrame) -> list[Verdict]:
    """One for an honest but curious server, and one for a malicious one where there is any.

    Args:
        leakage: A run's ``leakage.csv``.
    """
    scored = scored_images(leakage)
    if scored.empty:
        sentence = "The server attacked nobody, so nothing is said of what updates give away."
        return [Verdict("Leak", NOT_SHOWN, sentence)]
    return [_leak(str(threat), rows) for threat, rows in scored.groupby("threat")]


def scored_images(leakage: pd.DataFrame) -> pd.DataFrame:
    """The rows about original images, with ``attack`` and ``threat``, which older runs lack.

    An image has a row for each attack on it; see ``leaking_images`` and ``strongest_attack``.
    """
    rows = leakage[leakage["target"] == "original"].copy()
    rows["leaks"] = rows["verdict"] == "leaks"
    for name, otherwise in (("threat", "honest-but-curious"), ("reasons", "")):
        rows[name] = rows[name].fillna(otherwise) if name in rows else otherwise
    rows["attack"] = attack_labels(rows)
    for name in ("psnr", "chance_psnr"):
        rows[name] = pd.to_numeric(rows[name], errors="coerce")
    return rows


def leaking_images(rows: pd.DataFrame) -> tuple[int, int]:
    """How many images leak under any attack, and how many were attacked.

    An image that was attacked twice in a round counts once.
    """
    who = [name for name in ("defense", "rule", "seed") if name in rows]
    leaks = rows.groupby([*who, "round", "client", "image"])["leaks"].any()
    return int(leaks.sum()), len(leaks)


def strongest_attack(rows: pd.DataFrame) -> Strongest:
    """Of at least one row of ``scored_images``, as ``fedlab.results.attacks`` chooses it."""
    name, best = strongest_label(rows), best_of_each(rows)
    own = best[best["attack"] == name]
    leaking = int(own["leaks"].sum())
    told = own[own["leaks"]] if leaking else own
    psnr, chance = told["psnr"].median(), told["chance_psnr"].median()
    return Strongest(name, own, leaking, float(psnr), float(chance))


def circumstances(rows: pd.DataFrame) -> str:
    """Whether an attack's setting was diagnostic or realistic, and what made it diagnostic."""
    counts: dict[str, int] = {}
    for reasons in rows["reasons"]:
        for reason in filter(None, str(reasons).split(", ")):
            counts[reason] = counts.get(reason, 0) + 1
    why = [
        reason if count == len(rows) else f"{reason} in {_of(count, len(rows))}"
        for reason, count in counts.items()
    ]
    settings = sorted(set(rows["setting"]))
    return " and ".join(settings) + (f": {', '.join(why)}" if why else "")


def poison_verdict(scenario: Scenario, rounds: Sequence[RoundRow]) -> Verdict:
    """Whether poisoning clients reached what they are after at the end of the run.

    Args:
        scenario: That was run.
        rounds: From round 0 on; at least one.
    """
    if not scenario.poisons:
        return Verdict(
            "Poison", NOT_SHOWN, "Nobody poisons here, so nothing is said of what poison would do."
        )
    first, last = rounds[0], rounds[-1]
    who = "; ".join(_poisoners(scenario, entry) for entry in scenario.poisons)
    model = f"accuracy is {last.accuracy:.3f}" + (
        ""
        if _missing(last.worst_recall)
        else f", recall of the worst class {last.worst_recall:.2f}"
    )
    rates = {r.round: r.attack_success_rate for r in rounds if not _missing(r.attack_success_rate)}
    if last.round not in rates:
        best = max(rounds, key=lambda row: row.accuracy)
        return Verdict(
            "Poison",
            NOT_SHOWN,
            f"{who}: it aims at no class, so it has no success rate; after round {last.round} "
            f"{model}, at its best {best.accuracy:.3f} after round {best.round}, which takes a run "
            f"without the poisoning to compare with (one run, seed {scenario.seed}).",
        )
    known = {round: float(rate) for round, rate in rates.items() if rate is not None}
    highest = max(known, key=lambda round: known[round])
    rate, chance = known[last.round], last.chance_success_rate
    above = success_above_chance(rate, math.nan if chance is None else chance)
    several = ", of several the furthest above chance," if len(scenario.poisons) > 1 else ""
    before = f", {known[first.round]:.2f} before the first" if first.round in known else ""
    return Verdict(
        "Poison",
        "succeeds" if above >= SUCCEEDS else NOT_SHOWN,
        f"{who}: after round {last.round} the attack success rate{several} is {rate:.2f}"
        + (", its chance not known" if chance is None else f", by chance {chance:.2f}")
        + f" (highest {known[highest]:.2f} after round {highest}{before}), and {model}; one run, "
        f"seed {scenario.seed}.",
    )


def privacy_verdict(ledger: Ledger) -> Verdict:
    """What all that clients sent has cost, in each account in use."""
    clients = sorted(client for client, history in ledger.histories.items() if history)
    if not clients:
        return Verdict("Privacy spent", "nothing", "No client has sent anything yet.")
    clauses = [_spent(ledger, account, clients) for account in ledger.accounts]
    mixed = [row for row in ledger.rows() if row.mechanism == "dp-instahide"]
    if mixed and not ledger.labels_public:
        worth = listed(sorted({row.statement for row in mixed}))
        most = max((row.epsilon_round for row in mixed if row.epsilon_round), default=None)
        clauses.append(
            f"DP-InstaHide's own bound, up to {number(most)} a round, is {worth} and in no total"
        )
    return Verdict("Privacy spent", _ranges(ledger, clients), "; ".join(clauses) + ".")


def _ranges(ledger: Ledger, clients: Sequence[int]) -> str:
    """Totals in a range for each account, since epsilons of two units are not alike.

    A client counts in the accounts that it spent from; in all if it spent from none.
    """
    accounts = ledger.accounts
    spent = {
        client: {a for a in accounts if ledger.protected(client, a) is not None}
        for client in clients
    }
    used = [account for account in accounts if any(account in own for own in spent.values())]
    if not used:
        return "ε ∞"
    units = [account.unit for account in used]
    told = []
    for account in used:
        counted = [client for client, own in spent.items() if account in own or not own]
        totals = [ledger.total(client, account) for client in counted]
        low, high = number(min(totals)), number(max(totals))
        how = f" ({account.adjacency})" if units.count(account.unit) > 1 else ""
        told.append(f"{low if low == high else f'{low} to {high}'} of one {account.unit}{how}")
    deltas = dict.fromkeys(f"δ = {_delta(ledger, account):g}" for account in used)
    return f"ε {'; '.join(told)} ({' or '.join(deltas)})"


def _delta(ledger: Ledger, account: Account) -> float:
    """Of an account's epsilons; DP-InstaHide's are pure."""
    return 0.0 if account is IMAGE else ledger.delta


def _leak(threat: str, rows: pd.DataFrame) -> Verdict:
    leaking, images = leaking_images(rows)
    strongest = strongest_attack(rows)
    malicious = threat == "malicious"
    name = "Leak, malicious server" if malicious else "Leak"
    told = f"{circumstances(strongest.rows)}"
    realistic = rows[rows["setting"] == "realistic"]
    if not realistic.empty and len(realistic) < len(rows):
        told += f"; of the realistic ones {_of(*leaking_images(realistic))} images"
    if not leaking:
        return Verdict(
            name,
            NOT_SHOWN,
            f"None of {images} attacked images came out; the strongest attack, {strongest} "
            f"(n = {len(strongest.rows)}; {told}), and another attack may do better.",
        )
    groups = [
        (str(defenses), leaking_images(each))
        for defenses, each in rows.groupby("defenses", sort=False)
    ]
    hidden = [f"{under(name)} ({_of(*count)})" for name, count in groups if not count[0]]
    shown = [f"{under(name)} ({_of(*count)})" for name, count in groups if count[0]]
    where = f": {listed(shown)}" if len(groups) > 1 else ""
    rest = f"; not shown {listed(hidden)}" if hidden else ""
    return Verdict(
        name,
        "leaks",
        f"{_of(leaking, images)} attacked images leak{where}{rest}; the strongest attack, "
        f"{strongest} ({told}).",
    )


def _poisoners(scenario: Scenario, entry: Poisoning) -> str:
    clients = resolve_clients(entry.clients, scenario.data.clients)
    rounds = resolve_rounds(entry.rounds, scenario.rounds)
    return (
        f"{attack_names(entry)} by {len(clients)} of {_clients(scenario.data.clients)} in "
        f"round{'s' * (len(rounds) > 1)} {spell(rounds)}"
    )


def attack_names(entry: Poisoning) -> str:
    """What a poisoning client does, in the scenario's own names."""
    names: list[str] = [e.attack for e in (entry.data, entry.update) if e is not None]
    if entry.claims is not None:
        names.append(f"a claim of {entry.claims:,} examples")
    return " with ".join(names)


def _spent(ledger: Ledger, account: Account, clients: Sequence[int]) -> str:
    totals = {client: ledger.total(client, account) for client in clients}
    finite = [client for client, total in totals.items() if math.isfinite(total)]
    epsilons = {client: ledger.protected(client, account) for client in clients}
    protected = [epsilon for epsilon in epsilons.values() if epsilon is not None]
    hides = (
        f"one {account.unit} by {account.mechanism} ({account.adjacency}) "
        f"at δ = {_delta(ledger, account):g}"
    )
    if not protected:
        return (
            f"No reply of {_clients(len(clients))} was under a mechanism with an ε of its own, so "
            "every total is infinite"
        )
    if not finite:
        return (
            f"Hiding {hides}, protected rounds cost a client ε {number(max(protected))} at most, "
            "and every total is infinite, since everybody also sent without it"
        )
    most = number(max(totals[client] for client in finite))
    if len(finite) == len(clients):
        return f"Hiding {hides}, all of {_clients(len(clients))} stay within ε {most} in all"
    others = [client for client in clients if client not in finite]
    theirs = [epsilon for client in others if (epsilon := epsilons[client]) is not None]
    cost = f", and their rounds with it cost ε {number(max(theirs))} at most" if theirs else ""
    return (
        f"Hiding {hides}, client{'s' * (len(finite) > 1)} {spell(finite)} spent ε {most} in all; "
        f"of the {len(others)} other{'s' * (len(others) > 1)} the total is infinite, since they "
        f"also sent without it{cost}"
    )


def _clients(count: int) -> str:
    return f"{count} client{'s' * (count > 1)}"


def _of(some: int, all: int) -> str:
    return f"{some} of {all}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
