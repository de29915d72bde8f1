"""Plug-ins of the adversary: methods, objectives, priors, label rules and presets.

``attacks`` knows no plug-ins: it takes a name of its own or an object. The registries here find the
object behind any other name, and the error that a foreign one raises names it. They stand in the
lowest room because scenarios and defenses both name presets. Nothing here imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attacks.reconstruction.components import LABEL_RULES as RULES
from attacks.reconstruction.components import METHODS, name_of
from attacks.reconstruction.components import OBJECTIVES as DISTANCES
from attacks.reconstruction.components import PRIORS as PENALTIES
from attacks.reconstruction.presets import PRESETS as SETTINGS
from attacks.reconstruction.presets import AttackSettings
from fedlab.core.errors import BadInput
from fedlab.core.plugins import PluginFailed, Registry, describe

Function = Callable[..., Any]


def _is_function(found: object) -> str | None:
    return None if callable(found) else "is no function"


def _is_preset(found: object) -> str | None:
    if isinstance(found, AttackSettings) or callable(found):
        return None
    return "is neither an AttackSettings nor a function that returns one"


ATTACKS: Registry[Function] = Registry(
    "attack method", group="fedlab.attacks", builtin=METHODS.paths, check=_is_function
)
"""Reconstruction methods: ``(problem, settings, options) -> Reconstruction``."""

OBJECTIVES: Registry[Function] = Registry(
    "objective", group="fedlab.objectives", builtin=DISTANCES.paths, check=_is_function
)
"""Objectives: from the captured payload to a function from a simulated payload to a scalar."""

PRIORS: Registry[Function] = Registry(
    "prior", group="fedlab.priors", builtin=PENALTIES.paths, check=_is_function
)
"""Priors: ``(images, context) -> scalar``."""

LABEL_RULES: Registry[Function] = Registry(
    "label rule",
    group="fedlab.labels",
    builtin={**RULES.paths, "joint": "attacks.reconstruction.labels:joint_start"},
    check=_is_function,
)
"""Label rules: ``(layer, num_images, probabilities) -> labels``."""

PRESETS: Registry[AttackSettings | Function] = Registry(
    "preset",
    group="fedlab.presets",
    builtin={
        name: f"attacks.reconstruction.presets:{name.upper().replace('-', '_')}"
        for name in SETTINGS
    },
    check=_is_preset,
)
"""Presets: an ``AttackSettings``, or a function without arguments that returns one."""


class ForeignFunction:
    """A function of another package, whose errors name the plug-in.

    Functions that it returns are wrapped as well.

    Attributes:
        key: Name of the plug-in in scenarios, tables and figures.

    Args:
        kind: Kind of the plug-in for error messages.
        key: Name of the plug-in.
        function: The function.
    """

    def __init__(self, kind: str, key: str, function: Function) -> None:
        self.key = key
        self._kind = kind
        self._function = function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function.

        Raises:
            PluginFailed: If the function raises.
        """
        try:
            result = self._function(*arguments, **options)
        except PluginFailed:
            raise
        except Exception as error:  # foreign code may raise anything
            raise PluginFailed(f'{self._kind} "{self.key}" failed: {describe(error)}') from error
        return ForeignFunction(self._kind, self.key, result) if callable(result) else result

    def __repr__(self) -> str:
        return f"ForeignFunction({self._kind} {self.key!r})"


def component(registry: Registry[Function], name: str) -> Any:
    """The component behind a name, as ``AttackSettings`` takes it.

    Args:
        registry: Registry of the kind.
        name: Built-in name, name of an entry point, or ``package.module:Name``.

    Returns:
        The name itself if it is built in, else the function.

    Raises:
        BadInput: If no plug-in has that name or it cannot be imported.
    """
    if registry.is_builtin(name):
        return name
    return ForeignFunction(registry.kind, name, registry.get(name))


def preset(name: str) -> AttackSettings:
    """The settings behind the name of a preset.

    Args:
        name: Built-in name, name of an entry point, or ``package.module:Name``.

    Raises:
        BadInput: If no preset has that name, or it is not an ``AttackSettings``.
        PluginFailed: If a function that makes the preset raises.
    """
    found = PRESETS.get(name)
    made = found
    if not isinstance(found, AttackSettings):
        made = ForeignFunction(PRESETS.kind, name, found)()
    if not isinstance(made, AttackSettings):
        raise BadInput(f'preset "{name}" returned {type(made).__name__}, not AttackSettings')
    return made


def choice_of(given: Any) -> Any:
    """The name of a plug-in that was given as an object; names and ``None`` stay as they are."""
    return given if given is None or isinstance(given, str) else name_of(given)
