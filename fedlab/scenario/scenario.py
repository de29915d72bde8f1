"""A whole experiment as data: frozen, validated, read from TOML and written to it without loss."""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

import tomli_w
from pydantic import Field, field_validator, model_validator

from fedlab.core.errors import BadInput
from fedlab.core.schedule import MOST, combined, resolve_clients, resolve_rounds
from fedlab.core.settings import LARGEST, Scheduled, Settings
from fedlab.core.trackers import AnyTracker
from fedlab.core.views import Viewable
from fedlab.defenses import AnyDefense, Defense
from fedlab.defenses.compatibility import check
from fedlab.scenario.clipping import clip_schedule
from fedlab.scenario.overrides import apply_override, set_value
from fedlab.scenario.roles import Honest, Leaking, Poisoning, Role
from fedlab.scenario.tables import (
    Audit,
    Captures,
    Data,
    Engine,
    Imprint,
    MetricName,
    Model,
    Privacy,
    Reconstruct,
    Server,
    Suppression,
    Tampering,
    Training,
)

PACKAGED = Path(__file__).resolve().parents[2] / "simulations"
"""Folder of the scenarios that ship with the package."""

LONGEST_FILE = 4_000_000
"""Largest scenario file in bytes; the packaged ones have about a thousand, and toggles add some."""

MOST_DOTS = 500
"""Largest number of dots in a line: reading a key takes the square of the number of its parts."""

MOST_ENTRIES = 1_000
"""Largest number of roles, of defenses and of reconstructions; toggles add some."""

MOST_CELLS = 10_000_000
"""Largest number of rounds and clients that the entries of a schedule name, each on its own."""

MOST_PARTICIPATIONS = 100_000_000
"""Largest number of rounds times clients."""

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
    """Name of the experiment, in titles and tables: at most 200 printable characters."""
    seed: int = Field(default=0, ge=0, le=LARGEST)
    """Root seed, from which every random draw follows: from 0 to below 2 ** 63."""
    rounds: int = Field(default=1, ge=1, le=MOST)
    """Number of rounds, at most 100,000."""
    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    server: Server = Server()
    engine: Engine = Engine()
    privacy: Privacy = Privacy()
    captures: Captures = Captures()
    audit: Audit | None = None
    trackers: tuple[AnyTracker, ...] = ()
    """Experiment trackers that follow the run: names from ``fedlab list trackers``, or tables with
    a name and settings."""
    roles: tuple[Role, ...] = Field(default=(), max_length=MOST_ENTRIES)
    defenses: tuple[AnyDefense, ...] = Field(default=(), max_length=MOST_ENTRIES)
    """Defenses, each with its name, rounds, clients and settings; at most 1,000 entries."""
    reconstructions: tuple[Reconstruct, ...] = Field(default=(), max_length=MOST_ENTRIES)
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
        try:
            if not path.is_file() and path.suffix != ".toml":
                path = PACKAGED / f"{name}.toml"
            if not path.is_file():
                raise BadInput(
                    f'there is no scenario "{name}": give the path of a TOML file or one of '
                    + ", ".join(packaged())
                )
            if path.stat().st_size > LONGEST_FILE:
                raise BadInput(f"{path} is no scenario: it has more than {LONGEST_FILE:,} bytes")
            text = path.read_text(encoding="utf-8-sig")  # editors on Windows put a BOM first
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} cannot be read as a scenario: {error}") from error
        return cls.parse(text, overrides)

    @classmethod
    def parse(cls, toml: str, overrides: Iterable[str] = ()) -> Self:
        """Read a scenario from TOML text; see ``load`` for the overrides.

        With fewer rounds than in the text, entries of the schedule lose their later rounds, and the
        log says which.

        Raises:
            BadInput: If the text is not TOML, or the scenario is not valid.
        """
        if any(line.count(".") > MOST_DOTS for line in toml.splitlines()):
            raise BadInput(f"the scenario has a line with more than {MOST_DOTS} dots")
        try:
            table = tomllib.loads(toml)
        except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
            raise BadInput(f"the scenario is not valid TOML: {error}") from error
        before = table.get("rounds", 1)
        for override in overrides:
            apply_override(table, override)
        clip_schedule(table, before)
        return cls.model_validate(table)

    def changed(self, **tables: Any) -> Self:
        """A scenario with some tables replaced, validated anew.

        With fewer rounds, the entries of the tables that stay lose their later rounds, and the log
        says which.

        Args:
            **tables: New values by top-level key, such as ``rounds=3`` or ``defenses=[...]``.

        Raises:
            BadInput: If the result is not valid.
        """
        kept = {key: each for key, each in self.model_dump().items() if key not in tables}
        if "rounds" in tables:
            kept["rounds"] = tables["rounds"]
            clip_schedule(kept, self.rounds)
        return self.model_validate(kept | tables)

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """A scenario with some settings replaced, validated anew.

        Args:
            settings: New values by path, such as ``{"training.lr": 0.01}``;
                see ``fedlab.scenario.overrides.apply_override``.

        Raises:
            BadInput: If a path leads nowhere, or the result is not valid.
        """
        table = self.model_dump(mode="json", exclude_none=True)
        for path, value in settings.items():
            set_value(table, path, value)
        clip_schedule(table, self.rounds)
        return self.model_validate(table)

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

    def malicious_attack(self, *, round: int, client: int) -> Tampering | None:
        """The server's attack on a client by tampering with what it sends, if there is any."""
        return next(iter(_at(self._tampered, round, client)), None)

    def lr(self, round: int) -> float:
        """The learning rate of a round, counted from 1."""
        return self.training.lr * self.training.lr_decay ** (round - 1)

    @property
    def poisons(self) -> tuple[Poisoning, ...]:
        """The poisoning entries, in the order of the scenario."""
        return tuple(role for role in self.roles if isinstance(role, Poisoning))

    @property
    def schedule(self) -> list[Cells[Any]]:
        """All entries of the scenario that apply to some rounds and clients."""
        return [*self._roles, *self._defenses, *self._reconstructions, *self._tampered]

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
    def _tampered(self) -> list[Cells[Tampering]]:
        malicious = self.server.malicious
        if malicious is None:
            return []
        if isinstance(malicious, Imprint):  # part of the network, so of every round
            every = frozenset(range(1, self.rounds + 1)), frozenset(range(self.data.clients))
            return [Cells(malicious, *every)]
        cells = self._cells(malicious, "server.malicious")
        if isinstance(malicious, Suppression) and len(cells.clients) != 1:
            raise ValueError(
                f"server.malicious: suppression leaves one client in a sum, but clients = "
                f'"{malicious.clients}" are {len(cells.clients)}: name one'
            )
        return [cells]

    def _cells(self, entry: S, where: str) -> Cells[S]:
        try:
            return Cells(
                entry,
                resolve_rounds(entry.rounds, self.rounds),
                resolve_clients(entry.clients, self.data.clients),
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not name.isprintable() or not 0 < len(name) <= 200:
            raise ValueError("must be 1 to 200 printable characters")
        return name

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._refuse_absurd_sizes()
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
        if self.server.min_clients is not None and self.server.min_clients > self.data.clients:
            raise ValueError(
                f"server.min_clients is {self.server.min_clients}, but there are only "
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

    def _refuse_absurd_sizes(self) -> None:
        """Refuse what could not be scheduled in memory, before it is tried."""
        entries = len(self.roles) + len(self.defenses) + len(self.reconstructions)
        if entries * (self.rounds + self.data.clients) > MOST_CELLS:
            raise ValueError(
                f"{entries} entries for {self.rounds} rounds and {self.data.clients} clients are "
                "too many: use fewer roles, defenses or reconstructions, or fewer rounds or clients"
            )
        if self.rounds * self.data.clients > MOST_PARTICIPATIONS:
            raise ValueError(
                f"{self.rounds} rounds of {self.data.clients} clients are too many: rounds times "
                f"data.clients is at most {MOST_PARTICIPATIONS:,}"
            )

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
