"""Plug-ins of a scenario that are not fedlab's own: their source, version and module."""

import importlib
import re
from collections.abc import Iterator
from typing import Any

from attacks.reconstruction.presets import AttackSettings
from fedlab.core.plugins import REGISTRIES, fingerprint, load
from fedlab.data.registry import DATASETS
from fedlab.metrics.metric import Metric
from fedlab.scenario.scenario import Scenario

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""An import path ``package.module:Name``."""
_MAIN = "__main__:"
"""How an import path begins that names something of a notebook or of the script that runs."""


def foreign_plugins(scenario: Scenario) -> dict[str, str]:
    """Fingerprints of all plug-ins that a scenario names and that are not fedlab's own, by name.

    Images count by their content instead, and trackers change no result, so both are left out.

    Args:
        scenario: The scenario.

    Raises:
        BadInput: If a plug-in cannot be imported, or has no source that tells its versions apart.
    """
    settings = scenario.model_dump(
        mode="json", exclude={"name": True, "trackers": True, "data": {"source", "root", "factory"}}
    )
    found = {}
    for text in sorted(set(_texts(settings))):
        if _PATH.fullmatch(text):
            found[text] = _fingerprint(text)
        for registry in REGISTRIES:
            if text in registry.installed:
                found[f"{registry.kind} {text}"] = _fingerprint(registry.path(text))
    return found


def named_plugins(scenario: Scenario) -> list[str]:
    """Names of the plug-ins of a scenario that are not fedlab's own, none of which is imported."""
    texts = sorted(set(_texts(scenario.model_dump(mode="json", exclude={"name", "trackers"}))))
    return [
        text
        for text in texts
        if (_PATH.fullmatch(text) and text.partition(":")[0] not in DATASETS.builtin)
        or any(text in registry.installed for registry in REGISTRIES)
    ]


def _fingerprint(path: str) -> str:
    """Fingerprint of a plug-in; of its module if the plug-in is a metric or a preset."""
    plugin = load(path, what=f'plug-in "{path}"')
    if isinstance(plugin, Metric | AttackSettings):  # instances, which have no source
        return fingerprint(importlib.import_module(path.partition(":")[0]))
    return fingerprint(plugin)


def defined_in_main(scenario: Scenario) -> str | None:
    """The first plug-in that a notebook or the running script defines itself, if there is one."""
    texts = _texts(scenario.model_dump(mode="json"))
    return next((text for text in texts if text.startswith(_MAIN)), None)


def _texts(value: Any) -> Iterator[str]:
    """All texts in nested tables and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():  # weights of priors are named by their keys
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
