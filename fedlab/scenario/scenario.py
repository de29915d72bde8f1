"""A whole experiment as data: frozen, validated, read from TOML and written to it without loss."""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

import tomli_w
from pydantic import Field, ValidationError, model_validator

from fedlab.core.errors import BadInput
from fedlab.core.schedule import combined, resolve_clients, resolve_rounds
from fedlab.core.settings import Scheduled, Settings, sentence
from fedlab.core.trackers import AnyTracker
from fedlab.core.views import Viewable
from fedlab.defenses import AnyDefense, Defense
from fedlab.defenses.compatibility import check
from fedlab.scenario.overrides import apply_override
from fedlab.scenario.roles import Honest, Leaking, Poisoning, Role
from fedlab.scenario.tables import (
    Audit,
    Captures,
    ClassFishing,
    Data,
    Engine,
    Imprint,
    MetricName,
    Model,
    Privacy,
    Reconstruct,
    Server,
    Training,
)

PACKAGED = Path(__file__).resolve().parents[2] / "simulations"
"""Folder of the scenarios that ship with the package."""

E = TypeVar("E")
Entry = TypeVar("Entry", covariant=True)
S = TypeVar("S", bound=Scheduled)


class Cells(NamedTuple, Generic[Entry]):
    """An entry of the scenario, with the rounds and clients to which it applies."""

    entry: Entry
    rounds: frozenset[int]
    clients: frozenset[int]


class Scenario(Viewable, Settings):
    """A federated experiment: data, model, training, and the roles of clients in each round.

    Example:
        >>> scenario = Scenario(rounds=2, roles=[{"role": "leaking", "clients": "0"}])
        >>> scenario.role(round=1, client=0).role
        'leaking'
        >>> Scenario.parse(scenario.to_toml()) == scenario
        True
    """

    name: str = "unnamed"
    """Name of the experiment, in titles and tables."""
    seed: int = Field(default=0, ge=0)
    """Root seed, from which every random draw follows."""
    rounds: int = Field(default=1, ge=1)
    """Number of rounds."""
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
    metrics: tuple[MetricName, ...] = ()
    """Further metrics of reconstructed images, each one more column of ``leakage.csv``."""

    @classmethod
    def load(cls, name: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a scenario from a file, or one that ships with the package.

        Args:
            name: A path to a TOML file, or a name from ``fedlab list``.
            overrides: Settings to replace; see ``fedlab.scenario.overrides.apply_override``.

        Raises:
            BadInput: If there is no such file, or the scenario is not valid.
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
            BadInput: If the text is not TOML, or the scenario is not valid.
        """
        try:
            table = tomllib.loads(toml)
        except tomllib.TOMLDecodeError as error:
            raise BadInput(f"the scenario is not valid TOML: {error}") from error
        for override in overrides:
            apply_override(table, override)
        return cls._validated(table)

    @classmethod
    def _validated(cls, table: Mapping[str, Any]) -> Self:
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            raise BadInput(sentence(error)) from error

    def changed(self, **tables: Any) -> Self:
        """A scenario with some tables replaced, validated anew.

        Args:
            **tables: New values by top-level key, such as ``rounds=3`` or ``defenses=[...]``.

        Raises:
            BadInput: If the result is not valid.
        """
        return self._validated(self.model_dump() | tables)

    def to_toml(self) -> str:
        """The scenario as TOML text, which ``parse`` turns into an equal scenario."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))

    def role(self, *, round: int, client: int) -> Honest | Leaking | Poisoning:
        """The role of a client in a round; honest unless an entry says otherwise."""
        return next(iter(_at(self._roles, round, client)), Honest())

    def defenses_on(self, *, round: int, client: int) -> tuple[Defense, ...]:
        """The defenses that a client runs in a round, in their order in the scenario."""
        role = self.role(round=round, client=client)
        if isinstance(role, Poisoning) and not role.runs_defenses:
            return ()
        return self.scheduled_defenses(round=round, client=client)

    def scheduled_defenses(self, *, round: int, client: int) -> tuple[Defense, ...]:
        """The defenses scheduled for a client in a round, whether or not the client runs them."""
        return _at(self._defenses, round, client)

    def reconstructions_on(self, *, round: int, client: int) -> tuple[Reconstruct, ...]:
        """The attacks scheduled against a client in a round."""
        return _at(self._reconstructions, round, client)

    def malicious_attack(self, *, round: int, client: int) -> Imprint | ClassFishing | None:
        """The server's tampering with the model that it sends to a client, if there is any."""
        return next(iter(_at(self._tampered, round, client)), None)

    def lr(self, round: int) -> float:
        """The learning rate of a round, counted from 1."""
        return self.training.lr * self.training.lr_decay ** (round - 1)

    @property
    def poisons(self) -> tuple[Poisoning, ...]:
        """The poisoning entries, in the order of the scenario."""
        return tuple(role for role in self.roles if isinstance(role, Poisoning))

    @cached_property
    def _roles(self) -> list[Cells[Role]]:
        return [self._cells(entry, f"roles.{i}") for i, entry in enumerate(self.roles)]

    @cached_property
    def _defenses(self) -> list[Cells[Defense]]:
        return [self._cells(entry, f"defenses.{i}") for i, entry in enumerate(self.defenses)]

    @cached_property
    def _reconstructions(self) -> list[Cells[Reconstruct]]:
        entries = enumerate(self.reconstructions)
        return [self._cells(entry, f"reconstructions.{i}") for i, entry in entries]

    @cached_property
    def _tampered(self) -> list[Cells[Imprint | ClassFishing]]:
        malicious = self.server.malicious
        if malicious is None:
            return []
        if isinstance(malicious, Imprint):  # part of the network, so of every round
            every = frozenset(range(1, self.rounds + 1)), frozenset(range(self.data.clients))
            return [Cells(malicious, *every)]
        return [self._cells(malicious, "server.malicious")]

    def _cells(self, entry: S, where: str) -> Cells[S]:
        try:
            return Cells(
                entry,
                resolve_rounds(entry.rounds, self.rounds),
                resolve_clients(entry.clients, self.data.clients),
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_overlap("roles", self._roles, lambda role: "")
        _refuse_overlap("defenses", self._defenses, lambda defense: defense.name)
        self._refuse_impossible_defenses()
        # Schedules are resolved on first use; an unreadable one is refused here.
        self.malicious_attack(round=1, client=0)
        self.reconstructions_on(round=1, client=0)
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
        if (self.data.source == "factory") != (self.data.factory is not None):
            raise ValueError('data.factory goes with data.source = "factory"')
        if (self.model.name == "factory") != (self.model.factory is not None):
            raise ValueError('model.factory goes with model.name = "factory"')
        return self

    def _refuse_impossible_defenses(self) -> None:
        for entry in self.defenses:
            if problem := entry.norm_problem(self.model.norm):
                raise ValueError(problem)
        cells = [(each.rounds, each.clients) for each in self._defenses]
        for round, client, places in combined(cells):
            try:
                check([self.defenses[place] for place in places])
            except ValueError as error:
                raise ValueError(f"round {round}, client {client} has {error}") from error


def packaged() -> list[str]:
    """Names of the scenarios that ship with the package."""
    return sorted(path.stem for path in PACKAGED.glob("*.toml"))


def _at(entries: Iterable[Cells[E]], round: int, client: int) -> tuple[E, ...]:
    return tuple(each.entry for each in entries if round in each.rounds and client in each.clients)


def _refuse_overlap(what: str, entries: Sequence[Cells[E]], kind: Callable[[E], str]) -> None:
    """Refuse two entries of one kind for the same round and client."""
    for (i, one), (j, other) in combinations(enumerate(entries), 2):
        rounds, clients = one.rounds & other.rounds, one.clients & other.clients
        if kind(one.entry) == kind(other.entry) and rounds and clients:
            names = [getattr(each.entry, "role", None) or kind(each.entry) for each in (one, other)]
            raise ValueError(
                f"{what}.{i} ({names[0]}) and {what}.{j} ({names[1]}) both claim "
                f"round {min(rounds)}, client {min(clients)}"
            )
