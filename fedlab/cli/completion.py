"""Names that a shell completes: scenarios, defenses, presets of attacks and aggregation rules."""

import re
from collections.abc import Iterable
from pathlib import Path


def complete_scenario(incomplete: str) -> list[str]:
    """Scenarios that ship with the package, and TOML files and folders of the working folder."""
    from fedlab.scenario.scenario import packaged

    files = [
        f"{path}/" if path.is_dir() else str(path)
        for path in Path().glob(f"{incomplete}*")
        if path.is_dir() or path.suffix == ".toml"
    ]
    return [name for name in packaged() if name.startswith(incomplete)] + sorted(files)


def complete_defenses(incomplete: str) -> list[str]:
    """Lists of defenses such as ``none,dp-sgd+pruning``, with the last name completed."""
    from fedlab.defenses import DEFENSES

    return _last_completed(incomplete, ["none", *DEFENSES.builtin], separators=",+")


def complete_presets(incomplete: str) -> list[str]:
    """Lists of presets of attacks, with the last name completed."""
    from fedlab.core.attack_plugins import PRESETS

    return _last_completed(incomplete, PRESETS.builtin, separators=",")


def complete_rules(incomplete: str) -> list[str]:
    """Lists of aggregation rules, with the last name completed."""
    from fedlab.scenario.rules import RULES

    return _last_completed(incomplete, RULES.builtin, separators=",")


def _last_completed(incomplete: str, names: Iterable[str], *, separators: str) -> list[str]:
    done, last = re.fullmatch(f"(.*[{separators}])?(.*)", incomplete).groups("")  # type: ignore[union-attr]
    return [f"{done}{name}" for name in sorted(names) if name.startswith(last)]
