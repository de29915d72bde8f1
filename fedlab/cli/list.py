"""The command ``fedlab list``."""

from __future__ import annotations

import inspect
import tomllib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedlab.core.consoles import console
from fedlab.core.errors import BadInput, RunFailed, nearest

if TYPE_CHECKING:
    from rich.table import Table

    from attacks.reconstruction.presets import AttackSettings

REGISTRIES = {
    "defenses": "fedlab.defenses.base:DEFENSES",
    "poisons": "fedlab.poisoning.base:POISONS",
    "updates": "fedlab.poisoning.updates.base:UPDATE_ATTACKS",
    "rules": "fedlab.scenario.rules:RULES",
    "models": "fedlab.models.registry:MODELS",
    "datasets": "fedlab.data.registry:DATASETS",
    "partitions": "fedlab.data.registry:PARTITIONS",
    "attacks": "fedlab.core.attack_plugins:ATTACKS",
    "objectives": "fedlab.core.attack_plugins:OBJECTIVES",
    "priors": "fedlab.core.attack_plugins:PRIORS",
    "labels": "fedlab.core.attack_plugins:LABEL_RULES",
    "metrics": "fedlab.metrics.metric:METRICS",
    "trackers": "fedlab.core.trackers:TRACKERS",
}
"""Import path of the registry of each kind of plug-in."""
KINDS = ("scenarios", "presets", *REGISTRIES)

SHIPPED = "digits"
"""Data set that comes with scikit-learn."""

_HIDDEN = ("_key", "_fn", "_nodes", "fraction_train", "fraction_evaluate")
"""Endings of the arguments of Flower's rules that a scenario cannot choose."""
_SCHEDULE = frozenset({"rounds", "clients"})
"""Settings of every plug-in that a scenario schedules."""


def list_plugins(
    kind: Annotated[
        str, typer.Argument(help=f"Kind of thing to list: {', '.join(KINDS)}.")
    ] = "scenarios",
    installed: Annotated[
        bool,
        typer.Option(
            "--installed",
            help="Import the plug-ins of installed packages, which runs their code, and describe "
            "them as well. Otherwise only their names and packages are printed.",
        ),
    ] = False,
) -> None:
    """List what a scenario can name, with a description and the settings with their defaults."""
    if kind not in KINDS:
        raise BadInput(f'there is no list of "{kind}"; {nearest(kind, KINDS)}')
    if kind == "scenarios":
        console.print(_scenarios_table())
    elif kind == "presets":
        console.print(presets_table(installed=installed))
    else:
        console.print(_plugins_table(kind, installed=installed))


def presets_table(*, installed: bool = False) -> Table:
    """The reconstruction presets with the values that make them up and their sources.

    Args:
        installed: Import the presets of installed packages to describe them as well.
    """
    from rich.table import Table

    from fedlab.core.attack_plugins import PRESETS, preset

    table = Table("preset", "what it does", "source", title="Attacks by name", show_lines=True)
    for name in PRESETS.builtin:
        table.add_row(name, *preset_cells(preset(name)))
    for name, package in _packages(PRESETS.group).items():
        cells = (f"of the package {package}", "")
        if installed:
            try:
                cells = preset_cells(preset(name))
            except (BadInput, RunFailed) as error:
                cells = (str(error), "")
        table.add_row(name, *cells)
    return table


def preset_cells(attack: AttackSettings) -> tuple[str, str]:
    """Description and source of a preset, for a table."""
    from attacks.reconstruction.components import name_of

    if attack.method in ("analytic", "spear"):
        return "read off the first layer, no optimisation", attack.source
    if attack.method == "learned":
        return "a network trained on simulated clients to map updates to images", attack.source
    objective, rule = name_of(attack.objective), name_of(attack.label_rule)
    moved = "" if attack.parametrisation == "pixels" else f"{name_of(attack.parametrisation)}, "
    return (
        f"{moved}{objective}, {attack.optimiser}, TV {attack.tv:g}, "
        f"{attack.iterations:,} iterations, labels {rule}"
    ), attack.source


def _scenarios_table() -> Table:
    from rich.table import Table

    from fedlab.scenario.scenario import PACKAGED, packaged

    table = Table("scenario", "what it shows", "images")
    for name in packaged():
        text = (PACKAGED / f"{name}.toml").read_text(encoding="utf-8")
        source = tomllib.loads(text).get("data", {}).get("source", SHIPPED)
        table.add_row(name, text.splitlines()[0].removeprefix("#").strip(), _where(source))
    return table


def _where(source: str) -> str:
    """How one gets the images of a scenario."""
    if source == SHIPPED:
        return "with the package"
    return f"a file of yours, {source}" if ":" in source else f"fedlab data get {source}"


def _plugins_table(kind: str, *, installed: bool) -> Table:
    from rich.table import Table

    from fedlab.core.plugins import load

    names = load(REGISTRIES[kind], what=f"the list of {kind}")
    table = Table("name", "what it is", "settings and defaults")
    for name in names.builtin:
        plugin = names.get(name)
        table.add_row(with_argument(name, plugin), summary_of(plugin), _settings(plugin))
    for name, package in _packages(names.group).items():
        summary, settings = f"of the package {package}", ""
        if installed:
            try:
                plugin = names.get(name)
                summary, settings = f"{summary_of(plugin)} ({package})", _settings(plugin)
            except BadInput as error:
                summary = str(error)
        table.add_row(name, summary, settings)
    return table


def _packages(group: str) -> dict[str, str]:
    """The package of each plug-in that installed packages add, by name."""
    from importlib.metadata import entry_points

    return {
        point.name: point.dist.name if point.dist else "unknown"
        for point in entry_points(group=group)
    }


def with_argument(name: str, plugin: Any) -> str:
    """The name as a scenario has it: a data set may take an argument after a colon."""
    argument = getattr(plugin, "argument", "")
    return f"{name}:{argument}" if isinstance(argument, str) and argument else name


def summary_of(plugin: Any) -> str:
    """The first paragraph of a plug-in's docstring."""
    text = inspect.cleandoc(plugin.__doc__ or "")
    return " ".join(text.partition("\n\n")[0].split())


def settings_of(plugin: Any) -> dict[str, Any]:
    """The settings of a plug-in that a scenario can choose, with their defaults."""
    from fedlab.core.plugins import Plugin

    if isinstance(plugin, type) and issubclass(plugin, Plugin):
        hidden = _SCHEDULE | {plugin.tag}
        fields = {name: each for name, each in plugin.model_fields.items() if name not in hidden}
        return {
            name: None if each.is_required() else each.get_default(call_default_factory=True)
            for name, each in fields.items()
        }
    return {
        name: each.default
        for name, each in inspect.signature(plugin).parameters.items()
        if each.default is not each.empty and not name.endswith(_HIDDEN)
    }


def _settings(plugin: Any) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in settings_of(plugin).items())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool | None) else str(value)
