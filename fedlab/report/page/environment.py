"""Versions and hardware, as a run wrote them down."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from markupsafe import Markup

from fedlab.report.html.tables import facts_table
from fedlab.report.tables.numbers import plain
from fedlab.scenario.reproducibility import noise_source
from fedlab.scenario.scenario import Scenario

_NAMES = {
    "memory_gib": "memory (GiB)",
    "threads": "PyTorch threads",
    "gpu": "GPU",
    "dp_noise": "noise of defenses",
    "python": "Python",
}


def environment_table(folder: Path, scenarios: Iterable[Scenario]) -> Markup:
    """What a run ran on.

    Args:
        folder: Of the run.
        scenarios: As they stand, of this run or of all runs that it is an example of: what a run
            wrote down of its noise when it began, toggles may have changed.
    """
    try:
        facts = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Markup("<p>{}</p>").format("This run has no environment.json that can be read.")
    if not isinstance(facts, dict):
        return facts_table(())
    return facts_table(_flat(facts | {"dp_noise": noise_source(scenarios)}))


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
