"""Versions and hardware, as a run wrote them down."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from markupsafe import Markup

from fedlab.report.html_tables import facts_table
from fedlab.report.numbers import plain

_NAMES = {
    "memory_gib": "memory (GiB)",
    "threads": "PyTorch threads",
    "gpu": "GPU",
    "dp_noise": "noise of defenses",
    "python": "Python",
}


def environment_table(folder: Path) -> Markup:
    """What a run ran on; its first table where it has one.

    Args:
        folder: Of the run.
    """
    try:
        facts = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Markup("<p>{}</p>").format("This run has no environment.json that can be read.")
    return facts_table(_flat(facts) if isinstance(facts, dict) else ())


def _flat(facts: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from ((str(inner), each) for inner, each in value.items())
        elif value is None:
            yield _NAMES.get(name, name), "none"
        else:
            yield (
                _NAMES.get(name, name),
                value if isinstance(value, str) else plain(value, digits=1),
            )
