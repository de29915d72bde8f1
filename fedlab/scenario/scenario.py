"""A whole experiment as data: frozen, validated, and TOML in and out without loss."""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import Field, ValidationError, model_validator

from attacks.reconstruction.presets import PRESETS
from fedlab.core.errors import BadInput, nearest
from fedlab.core.schedule import combined, resolve_clients, resolve_rounds
from fedlab.core.settings import Settings, value_of
from fedlab.core.trackers import AnyTracker
from fedlab.core.views import Viewable
from fedlab.defenses import AnyDefense, Defense
from fedlab.defenses.compatibility import check
from fedlab.scenario.roles import Honest, Leaking, Poisoning, Role
from fedlab.scenario.tables import (
    Audit,
    Captures,
    ClassFishing,
    Data,
    Engine,
    Imprint,
    Model,
    Privacy,
    Reconstruct,
    Server,
    Training,
)

PACKAGED = Path(__file__).resolve().parents[2] / "simulations"
"""Where the scenarios live that ship with the package."""


class Scenario(Viewable, Settings):
    """A federated experiment: data, model, training, and who is what in which round.

    Example:
        >>> scenario = Scenario(rounds=2, roles=[{"role": "leaking", "clients": "0"}])
        >>> scenario.role(round=1, client=0).role
        'leaking'
        >>> Scenario.parse(scenario.to_toml()) == scenario
        True
    """

    name: str = "unnamed"
    seed: int = Field(default=0, ge=0)
    rounds: int = Field(default=1, ge=1)
    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    server: Server = Server()
    engine: Engine = Engine()
    privacy: Privacy = Privacy()
    captures: Captures = Captures()
    audit: Audit | None = None
    trackers: tuple[AnyTracker, ...] = ()
    roles: tuple[Role, ...] = ()
    defenses: tuple[AnyDefense, ...] = ()
    reconstructions: tuple[Reconstruct, ...] = ()

    @classmethod
    def load(cls, name: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a scenario file, or one that ships with the package by its name.

        Args:
            name: A path to a TOML file, or a name from ``fedlab list``.
            overrides: Settings to replace, such as ``"training.lr=0.05"``,
                ``"roles.0.batch_size=4"`` or ``"defenses.dp-sgd.noise_multiplier=0"``
                (every entry of that name).

        Raises:
            BadInput: If there is no such file, or it cannot work.
        """
        path = Path(name)
        if not path.is_file() and path.suffix != ".toml":
            path = PACKAGED / f"{name}.toml"
        if not path.is_file():
            raise BadInput(
                f'there is no scenario "{name}": give the path of a TOML file or one of '
                + ", ".join(packaged())
            )
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} cannot be read as a scenario: {error}") from error
        return cls.parse(text, overrides)

    @classmethod
    def parse(cls, toml: str, overrides: Iterable[str] = ()) -> Self:
        """Read a scenario from TOML text; see ``load`` for the overrides.

        Raises:
            BadInput: If the text is not TOML, or describes what cannot work.
        """
        try:
            table = tomllib.loads(toml)
        except tomllib.TOMLDecodeError as error:
            raise BadInput(f"the scenario is not valid TOML: {error}") from error
        for override in overrides:
            _override(table, override)
        return cls._validated(table)

    @classmethod
    def _validated(cls, table: Mapping[str, Any]) -> Self:
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            raise BadInput(_sentence(error)) from error

    def changed(self, **tables: Any) -> Self:
        """The scenario with some of its tables replaced, validated anew.

        Raises:
            BadInput: If the result cannot work.
        """
        return self._validated(self.model_dump() | tables)

    def to_toml(self) -> str:
        """The scenario as TOML text from which ``parse`` makes an equal one."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))

    def role(self, *, round: int, client: int) -> Honest | Leaking | Poisoning:
        """What a client is in a round."""
        for entry, rounds, clients in self._roles:
            if round in rounds and client in clients:
                return entry
        return Honest()

    def defenses_on(self, *, round: int, client: int) -> tuple[Defense, ...]:
        """The defenses that a client runs in a round, in the order of the scenario."""
        role = self.role(round=round, client=client)
        if isinstance(role, Poisoning) and not role.runs_defenses:
            return ()
        return self.scheduled_defenses(round=round, client=client)

    def scheduled_defenses(self, *, round: int, client: int) -> tuple[Defense, ...]:
        """The defenses scheduled for a client in a round, whether or not it obeys."""
        return tuple(
            e for e, rounds, clients in self._defenses if round in rounds and client in clients
        )

    def reconstructions_on(self, *, round: int, client: int) -> tuple[Reconstruct, ...]:
        """The attacks scheduled against a client in a round."""
        return tuple(
            e
            for e, rounds, clients in self._reconstructions
            if round in rounds and client in clients
        )

    def malice(self, *, round: int, client: int) -> Imprint | ClassFishing | None:
        """How the server tampers with what it sends to a client in a round, if it does."""
        rounds, clients = self._tampered
        return self.server.malicious if round in rounds and client in clients else None

    def lr(self, round: int) -> float:
        """The learning rate of a round, counted from 1."""
        return self.training.lr * self.training.lr_decay ** (round - 1)

    @property
    def poisons(self) -> tuple[Poisoning, ...]:
        """The poisoning entries, in the order of the scenario."""
        return tuple(role for role in self.roles if isinstance(role, Poisoning))

    @cached_property
    def _roles(self) -> "list[tuple[Role, frozenset[int], frozenset[int]]]":
        return [(e, *self._cells(e, f"roles.{i}")) for i, e in enumerate(self.roles)]

    @cached_property
    def _defenses(self) -> "list[tuple[Defense, frozenset[int], frozenset[int]]]":
        return [(e, *self._cells(e, f"defenses.{i}")) for i, e in enumerate(self.defenses)]

    @cached_property
    def _reconstructions(self) -> list[tuple[Reconstruct, frozenset[int], frozenset[int]]]:
        return [
            (e, *self._cells(e, f"reconstructions.{i}")) for i, e in enumerate(self.reconstructions)
        ]

    @cached_property
    def _tampered(self) -> tuple[frozenset[int], frozenset[int]]:
        malicious = self.server.malicious
        if isinstance(malicious, ClassFishing):
            return self._cells(malicious, "server.malicious")
        if malicious is None:
            return frozenset(), frozenset()
        return frozenset(range(1, self.rounds + 1)), frozenset(range(self.data.clients))

    def _cells(
        self, entry: "Role | Defense | Reconstruct | ClassFishing", where: str
    ) -> tuple[frozenset[int], frozenset[int]]:
        try:
            return (
                resolve_rounds(entry.rounds, self.rounds),
                resolve_clients(entry.clients, self.data.clients),
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _refuse_overlap("roles", [(e.role, r, c) for e, r, c in self._roles], always=True)
        _refuse_overlap("defenses", [(e.name, r, c) for e, r, c in self._defenses], always=False)
        self._refuse_impossible_defenses()
        self.malice(round=1, client=0)  # refuses a schedule that cannot be read
        if self.server.cohort is not None and self.server.cohort > self.data.clients:
            raise ValueError(
                f"server.cohort is {self.server.cohort}, but there are only "
                f"{self.data.clients} clients (data.clients)"
            )
        if self.audit is not None and self.audit.client >= self.data.clients:
            raise ValueError(
                f"audit.client is {self.audit.client}, but clients go from 0 to "
                f"{self.data.clients - 1}"
            )
        for index, (attack, _, _) in enumerate(self._reconstructions):
            if attack.preset not in PRESETS:
                raise ValueError(
                    f'reconstructions.{index}.preset "{attack.preset}" is unknown; '
                    + nearest(attack.preset, PRESETS)
                )
        if (self.data.source == "factory") != (self.data.factory is not None):
            raise ValueError('data.factory goes with data.source = "factory"')
        if (self.model.name == "factory") != (self.model.factory is not None):
            raise ValueError('model.factory goes with model.name = "factory"')
        return self

    def _refuse_impossible_defenses(self) -> None:
        for entry in self.defenses:
            if problem := entry.norm_problem(self.model.norm):
                raise ValueError(problem)
        cells = [(rounds, clients) for _, rounds, clients in self._defenses]
        for round, client, places in combined(cells):
            try:
                check([self.defenses[place] for place in places])
            except ValueError as error:
                raise ValueError(f"round {round}, client {client} has {error}") from error


def packaged() -> list[str]:
    """Names of the scenarios that ship with the package."""
    return sorted(path.stem for path in PACKAGED.glob("*.toml"))


def _refuse_overlap(
    what: str, cells: list[tuple[str, frozenset[int], frozenset[int]]], *, always: bool
) -> None:
    """Refuse two entries for the same cell; ``always`` or only if they have the same name."""
    for (i, one), (j, other) in combinations(enumerate(cells), 2):
        if not always and one[0] != other[0]:
            continue
        if (rounds := one[1] & other[1]) and (clients := one[2] & other[2]):
            raise ValueError(
                f"{what}.{i} ({one[0]}) and {what}.{j} ({other[0]}) both claim "
                f"round {min(rounds)}, client {min(clients)}"
            )


def _override(table: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise BadInput(f'"{override}" is no setting: write it as --set training.lr=0.05')
    value = value_of(text)
    *parents, last = path.strip().split(".")
    places: list[Any] = [table]
    for key in parents:
        places = [inner for place in places for inner in _descend(place, key, path)]
    for place in places:
        if isinstance(place, list):
            raise BadInput(f'"{path}" ends at a list; name one of its settings')
        place[last] = value


def _descend(place: Any, key: str, path: str) -> list[Any]:
    """The tables one step down: a key of a table, an index of a list, or all of a name in it."""
    if isinstance(place, list):
        if key.isdecimal() and int(key) < len(place):
            return [place[int(key)]]
        named = [entry for entry in place if key in (entry.get("name"), entry.get("role"))]
        if named:
            return named
        raise BadInput(f'"{path}" does not lead anywhere: there is no entry "{key}"')
    if key.isdecimal():
        raise BadInput(f'"{path}" does not lead anywhere: there is no entry {key}')
    inner = place.setdefault(key, {})
    if not isinstance(inner, dict | list):
        raise BadInput(f'"{path}" does not lead anywhere: "{key}" is a value, not a table')
    return [inner]


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, as one sentence that names the key."""
    first = error.errors()[0]
    where = first["loc"]
    table = ".".join(str(part) for part in where)
    if first["type"] == "unknown_key":
        return f"{table or 'the scenario'} {first['msg']}"
    if first["type"] == "union_tag_invalid":
        tag = first["ctx"]["tag"]
        expected = [name.strip("' ") for name in first["ctx"]["expected_tags"].split(",")]
        return f'{".".join(map(str, where))}: "{tag}" is unknown; {nearest(tag, expected)}'
    message = first["msg"].removeprefix("Value error, ")
    if not table:
        return message
    # A whole table is not worth repeating.
    told = isinstance(first["input"], Mapping | list | tuple)
    return f"{table}: {message}" if told else f"{table}: {message} (it is {first['input']!r})"
