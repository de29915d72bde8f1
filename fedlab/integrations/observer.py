"""Record what the server of any Flower app sends and receives, without a change to the app."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from attacks.knowledge import LocalSGD
from attacks.reconstruction import Reconstruction
from fedlab.core.errors import BadInput
from fedlab.core.files import check_folder
from fedlab.core.schedule import names_client, names_round
from fedlab.integrations.external_update import Kind
from fedlab.integrations.recorder import Recorder

if TYPE_CHECKING:
    from fedlab.integrations.audit import Audit


def observe(
    strategy: Strategy,
    folder: Path | str,
    *,
    local: LocalSGD | Callable[[int], LocalSGD] | None = None,
    rounds: str | int = "all",
    clients: str | int = "all",
    kind: Kind = "weights",
    training_mode: bool = True,
    arrays_key: str = "arrays",
    examples_key: str = "num-examples",
) -> "Observed":
    """Wrap a strategy of a ServerApp so that captures of its training rounds are kept.

    The run stays the same, bit for bit: messages, replies, aggregation and random draws. A capture
    contains all arrays of a reply by name, buffers included; an attack, which knows the network,
    tells them from parameters. What cannot be kept (an error, a reply without arrays, a full disk)
    is reported in the log. Wrap the outermost strategy: a strategy inside one of Flower's wrappers
    for differential privacy sees clipped updates only.

    Args:
        strategy: A strategy of Flower's Message API, or your own.
        folder: Folder of the captures, created with the first one; it must not hold captures.
        local: Local training of the clients, the same in all rounds or a function of the round;
            attacks on weights need it, here or later.
        rounds: Rounds to keep, as in a scenario: ``all``, ``3``, ``1,4,7-``, ``every 2``.
        clients: Clients to keep, such as ``all`` or ``0-3``. The number of a client is the
            ``partition-id`` among a reply's metrics if it is there, otherwise its place in the
            order of first messages.
        kind: Content of the replies: ``weights`` after training, their ``difference`` from the
            weights that were sent, which is kept as weights, or the ``gradient`` of one batch.
        training_mode: True if the clients' networks are in training mode.
        arrays_key: Key of the record with the arrays, in messages and replies. Without such a
            record, a single other record of arrays is taken.
        examples_key: Key of the number of images among a reply's metrics.

    Returns:
        A strategy to use in place of the given one: ``observed.start(...)``.

    Raises:
        BadInput: If the folder holds captures or cannot be written to, or rounds or clients cannot
            be read.

    Example:
        >>> from flwr.serverapp.strategy import FedAvg
        >>> observe(FedAvg(), "captures", local=LocalSGD(lr=0.1), rounds="1-3")
        Observed(FedAvg, captures)
    """
    place = Path(folder)
    check_folder(place)
    if next(place.glob("*.safetensors"), None) is not None:
        raise BadInput(f"{place} holds the Captures of another run: name another folder")
    if kind not in get_args(Kind):
        raise BadInput(f'kind "{kind}" is none of {", ".join(get_args(Kind))}')
    try:
        names_round(str(rounds), 1)
        names_client(str(clients), 0)
    except ValueError as error:
        raise BadInput(str(error)) from error
    recorder = Recorder(
        place, local, str(rounds), str(clients), kind, training_mode, arrays_key, examples_key
    )
    return Observed(strategy, recorder)


class Observed(Strategy):
    """A strategy whose messages are recorded; see ``observe``.

    The wrapped strategy does all the work; attributes that are not defined here are read from it
    and set on it.
    """

    _strategy: Strategy
    _recorder: Recorder
    _hooks: dict[str, Any]

    def __init__(self, strategy: Strategy, recorder: Recorder) -> None:
        # An assignment would go to the wrapped strategy.
        vars(self).update(_strategy=strategy, _recorder=recorder, _hooks={})

    @property
    def folder(self) -> Path:
        """Folder of the captures."""
        return self._recorder.folder

    @property
    def clients(self) -> Mapping[int, int]:
        """Number of each client that has replied, by Flower's node id."""
        return dict(self._recorder.numbers)

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run ``start`` of the wrapped strategy with the same arguments."""
        with self._within():
            return self._strategy.start(*args, **kwargs)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Record the messages that the strategy sends."""
        self._recorder.begin()
        messages = self._own("configure_train")(server_round, arrays, config, grid)
        return _passing(messages, self._recorder.sent)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Record each reply before the strategy aggregates it."""

        def keep(reply: Message) -> None:
            self._recorder.received(server_round, reply)

        aggregated: tuple[ArrayRecord | None, MetricRecord | None]
        aggregated = self._own("aggregate_train")(server_round, _passing(replies, keep))
        return aggregated

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Call the method of the wrapped strategy."""
        return self._strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Call the method of the wrapped strategy."""
        return self._strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Call the method of the wrapped strategy."""
        self._strategy.summary()

    def reconstruct(self, *, round: int, client: int, **facts: Any) -> Reconstruction:
        """Reconstruct the images behind a kept reply; see ``reconstruct_capture``.

        Args:
            round: Round number, counted from 1.
            client: Number of the client.
            **facts: ``model``, ``shape``, ``classes`` and other arguments of that function.

        Raises:
            BadInput: If the reply was not kept, or cannot be attacked.

        Example::

            observed.reconstruct(
                round=1,
                client=0,
                model=Net(),
                shape=(1, 28, 28),
                classes=10,
                mean=(0.13,),
                std=(0.31,),
                preset="fast",
            )
        """
        # Imported here, since recording alone needs none of the built-in networks.
        from fedlab.integrations.recorded_attack import reconstruct_capture

        return reconstruct_capture(self.folder, round=round, client=client, **facts)

    def audit(self, *, round: int, client: int, **facts: Any) -> "Audit":
        """Attack a kept reply, score it where true images are given, and keep the result.

        Args:
            round: Round number, counted from 1.
            client: Number of the client.
            **facts: ``model``, ``shape``, ``classes``, ``truth`` and other arguments of
                ``audit_capture``.

        Raises:
            BadInput: If the reply was not kept, or cannot be attacked.
        """
        from fedlab.integrations.capture_folder import audit_capture

        return audit_capture(self.folder, round=round, client=client, **facts)

    @contextmanager
    def _within(self) -> Iterator[None]:
        """Replace the strategy's hooks while its own ``start`` runs."""
        attributes = vars(self._strategy)
        ours = {"configure_train": self.configure_train, "aggregate_train": self.aggregate_train}
        before = {name: attributes[name] for name in ours if name in attributes}
        self._hooks.update({name: getattr(self._strategy, name) for name in ours})
        attributes.update(ours)
        try:
            yield
        finally:
            self._hooks.clear()
            for name in ours:
                attributes.pop(name, None)
            attributes.update(before)

    def _own(self, hook: str) -> Any:
        """The strategy's own hook, also while it is replaced."""
        return self._hooks[hook] if hook in self._hooks else getattr(self._strategy, hook)

    def __getattr__(self, name: str) -> Any:
        if name == "_strategy":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self._strategy, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._strategy, name, value)

    def __repr__(self) -> str:
        return f"Observed({type(self._strategy).__name__}, {self.folder})"


def _passing(messages: Iterable[Message], look: Callable[[Message], None]) -> Iterable[Message]:
    """Pass messages on, after a look at each.

    A collection is passed on as it is; a generator stays a generator.
    """
    if not isinstance(messages, Collection):
        return _one_by_one(messages, look)
    for message in messages:
        look(message)
    return messages


def _one_by_one(messages: Iterable[Message], look: Callable[[Message], None]) -> Iterator[Message]:
    for message in messages:
        look(message)
        yield message
