"""Plug-ins: everything that a scenario, a command or a caller can choose by name.

A registry resolves a name to what it stands for: one of the built-in plug-ins, an entry point of
an installed package, or any ``package.module:Name``. Only the plug-in that is named is imported.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, cached_property
from importlib.metadata import entry_points, packages_distributions, version
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import PydanticUserError, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from fedlab.core.errors import BadInput, RunFailed, nearest
from fedlab.core.settings import Settings, sentence

P = TypeVar("P")


class PluginFailed(RunFailed):
    """A plug-in raised or returned something wrong; the message names it and says what."""


REGISTRIES: list[Registry[Any]] = []
"""Every registry that was imported so far."""

_LOOKING: ContextVar[Literal["", "scenario", "run"]] = ContextVar("looking", default="")


@contextmanager
def looking(at: Literal["scenario", "run"] = "scenario") -> Iterator[None]:
    """Import no plug-in that is named by ``package.module:Name``, to read a scenario as data.

    Plug-ins of fedlab and of installed packages are still imported, and those that this process
    has used before are known. A stand-in with the same settings takes the place of any other one.

    Args:
        at: ``scenario`` refuses other names that are unknown; for the scenario of a ``run`` they
            have a stand-in as well, since the package may have been removed since.
    """
    token = _LOOKING.set(at)
    try:
        yield
    finally:
        _LOOKING.reset(token)


def has_stand_in(name: str) -> bool:
    """True within ``looking`` for a plug-in that is not to be imported, or need not exist."""
    return _LOOKING.get() == "run" or (_LOOKING.get() == "scenario" and ":" in name)


class Registry(Generic[P]):
    """Names of one kind of plug-in.

    Args:
        kind: The word for one plug-in in messages, such as ``defense``.
        group: Entry point group in which installed packages add plug-ins.
        builtin: Import paths ``package.module:Name`` of the built-in plug-ins by name.
        check: Returns what is wrong with a resolved object, as the rest of a sentence that begins
            with its name, or ``None``.

    Example:
        >>> registry = Registry("function", group="example", builtin={"root": "math:sqrt"})
        >>> registry.get("root")(9.0), registry.get("math:floor")(2.5)
        (3.0, 2)
        >>> registry.get("rot")
        Traceback (most recent call last):
        ...
        fedlab.core.errors.BadInput: there is no function "rot"; did you mean "root"?
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        builtin: Mapping[str, str],
        check: Callable[[object], str | None] | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self.builtin = dict(builtin)
        self._check = check
        REGISTRIES.append(self)
        self._found: dict[str, P] = {}

    @cached_property
    def installed(self) -> dict[str, str]:
        """Import paths of the plug-ins that installed packages add, by name."""
        return {
            p.name: p.value for p in entry_points(group=self.group) if p.name not in self.builtin
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that stands for a plug-in: the built-in ones, then those of packages."""
        return (*self.builtin, *self.installed)

    def __contains__(self, name: str) -> bool:
        return name in self.builtin or name in self.installed or ":" in name

    def path(self, name: str) -> str:
        """The import path behind a name.

        Raises:
            BadInput: If no plug-in has that name.
        """
        if ":" in name:
            return name
        path = self.builtin.get(name) or self.installed.get(name)
        if path is None:
            raise BadInput(f'there is no {self.kind} "{name}"; {nearest(name, self.names)}')
        return path

    def get(self, name: str) -> P:
        """Import the plug-in behind a name.

        Args:
            name: A built-in name, the name of an entry point, or ``package.module:Name``, where
                modules of the working folder count as well.

        Raises:
            BadInput: If no plug-in has that name, it cannot be imported, or it is of another kind.
        """
        if name not in self._found:
            if ":" in name and _LOOKING.get():
                raise BadInput(f'{self.kind} "{name}" is not imported to look at a scenario')
            found = load(self.path(name), what=f'{self.kind} "{name}"')
            problem = self._check(found) if self._check else None
            if problem is not None:
                raise BadInput(f'{self.kind} "{name}" {problem}')
            self._found[name] = found
        return self._found[name]

    def name_of(self, plugin: object) -> str:
        """The name under which ``get`` finds a plug-in: its short name, or its import path."""
        path = f"{plugin.__module__}:{plugin.__qualname__}"  # type: ignore[attr-defined]
        known = self.builtin | self.installed
        return next((name for name, target in known.items() if target == path), path)

    def is_builtin(self, name: str) -> bool:
        """True for a plug-in that belongs to fedlab itself."""
        return name in self.builtin


def load(path: str, *, what: str) -> Any:
    """Import what ``package.module:Name`` names; modules of the working folder count as well.

    Args:
        path: The import path.
        what: The words for it in messages, such as ``defense "mine.module:Mine"``.

    Raises:
        BadInput: If the path is malformed, its module cannot be imported, or lacks the name.

    Example:
        >>> load("math:sqrt", what="function")(9.0)
        3.0
    """
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise BadInput(f"{what} must be written as package.module:Name")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that no file there takes the place of another module
    try:
        found: Any = importlib.import_module(module_name)
    except PydanticUserError as error:
        unknown = re.search(r"detected: `(\w+) =", str(error))
        if unknown is None:
            raise BadInput(f"{what} cannot be imported: {describe(error)}") from error
        raise BadInput(
            f"{what}: its class has no attribute {unknown[1]}; a setting needs a type, such as "
            f"{unknown[1]}: float = 1.0"
        ) from error
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything
        raise BadInput(f"{what} cannot be imported: {describe(error)}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise BadInput(f"{what}: module {module_name} has no {name}")
        found = getattr(found, part)
    return found


def describe(error: BaseException) -> str:
    """An exception in one line: its type and message."""
    if isinstance(error, ValidationError):
        return sentence(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def fingerprint(plugin: object) -> str:
    """A hash of a plug-in's source and version, so that results can be kept under it.

    Raises:
        BadInput: If the plug-in has no source that would tell its versions apart.
    """
    try:
        file = inspect.getsourcefile(plugin)  # type: ignore[arg-type]
        whole = file is not None and Path(file).is_file()
        source = Path(file).read_text("utf-8") if whole and file else inspect.getsource(plugin)  # type: ignore[arg-type]
    except (OSError, TypeError) as error:
        name = getattr(plugin, "__qualname__", repr(plugin))
        raise BadInput(
            f"{name} has no source that would tell its versions apart ({error}): define it in a "
            "module"
        ) from error
    module = getattr(plugin, "__module__", getattr(plugin, "__name__", ""))
    top = str(module).partition(".")[0]
    versions = [f"{each} {version(each)}" for each in packages_distributions().get(top, ())]
    # A package that is not installed has no version, so all of its files count.
    folders = [] if versions else list(getattr(sys.modules.get(top), "__path__", ()))
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    parts = [source, *sorted(versions), *(path.read_text("utf-8") for path in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Plugin(Settings):
    """A plug-in that a scenario configures: its settings are fields, its behaviour is methods.

    A subclass of one kind's base class is all that a plug-in takes. Its name in a scenario is
    filled in by itself: the built-in or entry point name, or ``package.module:Name``. A field for
    any plug-in of a kind is ``Annotated[SerializeAsAny[Base], PlainValidator(Base.parse_table)]``.
    """

    tag: ClassVar[str] = "name"
    """The key of a scenario's table that names the plug-in."""
    registry: ClassVar[Registry[Any]]
    """Names of this kind of plug-in; the base class of each kind sets it."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_name(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get(cls.tag):
            return given
        return {cls.tag: cls.registry.name_of(cls), **given}

    @property
    def key(self) -> str:
        """The name by which the scenario, tables and figures call this plug-in."""
        return str(getattr(self, self.tag))

    @classmethod
    def parse_table(cls, given: Any) -> Self:
        """Make a plug-in from an instance, a table with its name, or the name alone."""
        if isinstance(given, cls):
            return given
        table = {cls.tag: given} if isinstance(given, str) else given
        if not isinstance(table, Mapping):
            raise PydanticCustomError("plugin", "{text}", {"text": f"is no {cls.registry.kind}"})
        name = table.get(cls.tag)
        if not isinstance(name, str):
            raise PydanticCustomError(
                "plugin",
                "{text}",
                {"text": f"{cls.registry.kind} without a key {cls.tag!r}"},
            )
        try:
            found = cls.registry.get(name)
        except BadInput as error:
            if not has_stand_in(name):
                raise PydanticCustomError("plugin", "{text}", {"text": str(error)}) from error
            found = _stand_in(cls)
        # Not by model_validate, so that pydantic puts the place of this table before the message.
        made: Self = found.__pydantic_validator__.validate_python(dict(table))
        return made


@cache
def _stand_in(base: type[Plugin]) -> Any:
    """A plug-in that has the settings of another one, which is not imported, and does nothing."""

    def refuse(self: Plugin, *_: Any, **__: Any) -> Any:
        raise PluginFailed(
            f'{self.registry.kind} "{self.key}" was not imported, since the scenario was opened to '
            "look at it: read it with Scenario.load to run it"
        )

    names: frozenset[str] = getattr(base, "__abstractmethods__", frozenset())
    return type(
        f"StandIn{base.__name__}",
        (base,),
        {
            "__module__": __name__,
            "__doc__": _stand_in.__doc__,
            "model_config": {"extra": "allow"},
            "_refuse_what_no_table_has": model_validator(mode="before")(lambda given: given),
            **dict.fromkeys(names, refuse),
        },
    )


def check_callable(found: object) -> str | None:
    """The check of a registry whose plug-ins are functions."""
    return None if callable(found) else "cannot be called"


def check_subclass(base: type) -> Callable[[object], str | None]:
    """The check of a registry whose plug-ins are concrete subclasses of a base class."""

    def check(found: object) -> str | None:
        if not (isinstance(found, type) and issubclass(found, base)):
            return f"is no subclass of {base.__module__}.{base.__name__}"
        if missing := sorted(getattr(found, "__abstractmethods__", ())):
            return f"lacks the method {missing[0]}"
        return None

    return check
