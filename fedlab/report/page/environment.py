"""Versions and hardware of a run, from its ``environment.json``."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedlab.report.tables.numbers import plain
from fedlab.report.tables.table import ReportTable, facts_table
from fedlab.scenario.reproducibility import noise_source
from fedlab.scenario.scenario import Scenario

_NAMES = {
    "memory_gib": "memory (GiB)",
    "threads": "PyTorch threads",
    "gpu": "GPU",
    "dp_noise": "noise of defenses",
    "python": "Python",
}


def environment_table(folder: Path, scenarios: Iterable[Scenario]) -> ReportTable:
    """Versions and hardware of a run, and the source of noise in all its scenarios.

    Args:
        folder: Run folder.
        scenarios: The scenario of the run with its toggles, or those of all runs of a comparison.
            Toggles may have changed the source of noise since the run noted it.
    """
    try:
        facts = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        facts = {**facts, **facts.pop("packages", {}), "dp_noise": noise_source(scenarios)}
    except (OSError, ValueError, TypeError, AttributeError):
        return facts_table({"": "This run has no environment.json that can be read."})
    return facts_of(facts)


def facts_of(facts: Mapping[str, Any]) -> ReportTable:
    """Facts of ``fedlab.core.environment`` as a table, those of packages one line each."""
    own = {name: value for name, value in facts.items() if name != "packages"}
    return facts_table(
        {
            _NAMES.get(name, name): "none" if value is None else plain(value, digits=1)
            for name, value in (own | facts.get("packages", {})).items()
        }
    )
