"""Threat models of reconstruction by their letters in the literature.

Carletti et al., "SoK: Gradient Inversion Attacks in Federated Learning", USENIX Security 2025.
"""

from collections.abc import Collection

import pandas as pd

from fedlab.report.tables.numbers import listed

LETTERS = {
    "A": "sees the updates",
    "B": "knows architecture and weights",
    "C": "knows the details of local training",
    "D": "has similar public images",
    "E": "knows the distribution of the client's images (BatchNorm statistics)",
    "F": "changes what it sends to clients",
    "G": "changes what it sends to clients and has similar public images",
    "H": "changes what it sends to clients and chooses which of them take part",
}
"""What the server of each letter sees, knows or does. A to E follow the protocol, and B to E
each add to the one before."""


def letters_tested(ran: pd.DataFrame) -> list[str]:
    """The letter of each kind of server that attacked.

    Runs of earlier versions have no letters; their attacks may use public images, so none is weaker
    than D or G.

    Args:
        ran: Rows of the leakage table about attacks that ran.
    """
    if "threat" not in ran:
        return ["D"] * bool(len(ran))
    letters = ran["threat"].map({"malicious": "G"}).fillna("D")
    return sorted(set(ran["letter"].fillna(letters) if "letter" in ran else letters))


def tested_sentence(letters: Collection[str]) -> str:
    """State the threat model of the attacks by letter and in words."""
    if not letters:
        return "No attack on an update ran, so no threat model of reconstruction was tested."
    words = {
        "C": listed([LETTERS[each] for each in "ABC"]),
        "D": listed([LETTERS[each] for each in "ABCD"]),
        "G": LETTERS["G"],
        "H": LETTERS["H"],
    }
    models = "; ".join(f"{letter}: the server {words[letter]}" for letter in letters)
    return (
        f"Threat model {models}. The letters A to H are those of Carletti et al., SoK: Gradient "
        "Inversion Attacks in Federated Learning, USENIX Security 2025."
    )


def untested_sentence(letters: Collection[str]) -> str:
    """Name the threat models that no attack had, in words.

    Args:
        letters: Letters of ``letters_tested``: C and D cover those before them, G covers F, and H
            both.
    """
    covered = "".join(
        {"C": "ABC", "D": "ABCD", "G": "FG", "H": "FGH"}[letter] for letter in letters
    )
    rest = [f"{letter} ({words})" for letter, words in LETTERS.items() if letter not in covered]
    return f"No attack had a server of threat model {listed(rest, 'or')}."
