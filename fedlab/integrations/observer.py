"""Watch anybody's Flower app: keep what its server sent and got back, and change nothing."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

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
    """Put a strategy of a ServerApp under observation, which keeps Captures of its training rounds.

    The run stays as it is, bit for bit: the same messages, replies, aggregation and random draws.
    A Capture holds all arrays of a reply by their names, buffers beside the parameters; an attack,
    which knows the network, tells them apart.
    What cannot be kept (an error, a reply without arrays, a full disk) is said in the log. Observe
    the outermost strategy: what is inside of one of Flower's wrappers for differential privacy
    gets to see clipped updates only.

    Args:
        strategy: Any of Flower's Message API, or one's own.
        folder: For the Captures, made with the first one; it must not hold others already.
        local: What the server knows of its clients' training, the same in all rounds or by round;
            attacks on weights need it, here or later.
        rounds: To keep, as in a scenario: ``all``, ``3``, ``1,4,7-``, ``every 2``.
        clients: To keep: ``all``, ``0-3``. Their number is the ``partition-id`` among a reply's
            metrics if it is there, else their place in the order of first messages.
        kind: What replies hold: ``weights`` after training, their ``difference`` from those that
            were sent, which is kept as weights, or the ``gradient`` of one batch.
        training_mode: Whether clients' networks are in training mode.
        arrays_key: Of the record with the arrays, in messages and replies; if there is no such
            record but a single other one of arrays, that is it.
        examples_key: Of the number of images, among a reply's metrics.

    Returns:
        What stands in for the strategy: ``observed.start(...)``.

    Raises:
        BadInput: If the folder holds Captures or cannot be written to, or rounds or clients cannot
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
    """A strategy under observation; see ``observe``.

    Everything that it is asked for is done by the strategy itself: what is not named here, and
    what is set, is passed on to it.
    """

    _strategy: Strategy
    _recorder: Recorder
    _hooks: dict[str, Any]

    def __init__(self, strategy: Strategy, recorder: Recorder) -> None:
        # Not by assignment, which goes to the strategy.
        vars(self).update(_strategy=strategy, _recorder=recorder, _hooks={})

    @property
    def folder(self) -> Path:
        """Where the Captures are."""
        return self._recorder.folder

    @property
    def clients(self) -> Mapping[int, int]:
        """The number of each client of which a reply was looked at, by Flower's id of its node."""
        return dict(self._recorder.numbers)

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run the strategy's own ``start``, whatever it takes."""
        with self._within():
            return self._strategy.start(*args, **kwargs)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """What the strategy sends, noted as it goes out."""
        self._recorder.begin()
        messages = self._own("configure_train")(server_round, arrays, config, grid)
        return _passing(messages, self._recorder.sent)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the strategy makes of the replies, each kept before it gets its hands on it."""

        def keep(reply: Message) -> None:
            self._recorder.received(server_round, reply)

        aggregated: tuple[ArrayRecord | None, MetricRecord | None]
        aggregated = self._own("aggregate_train")(server_round, _passing(replies, keep))
        return aggregated

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The strategy's own."""
        return self._strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The strategy's own."""
        return self._strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """The strategy's own."""
        self._strategy.summary()

    def reconstruct(self, *, round: int, client: int, **facts: Any) -> Reconstruction:
        """Rebuild the images behind a kept reply; see ``reconstruct_capture``.

        Args:
            round: Counted from 1.
            client: Its number.
            **facts: ``model``, ``shape`` and ``classes``, and whatever else that function takes.

        Raises:
            BadInput: If it was not kept, or cannot be attacked.

        Example::

            observed.reconstruct(
                round=1, client=0, model=Net(), shape=(1, 28, 28), classes=10, preset="fast"
            )
        """
        # Only here: keeping Captures takes none of the networks that can be named.
        from fedlab.integrations.recorded_attack import reconstruct_capture

        return reconstruct_capture(self.folder, round=round, client=client, **facts)

    @contextmanager
    def _within(self) -> Iterator[None]:
        """Stand in for the strategy's hooks, for its own ``start``, which may be anybody's."""
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
        """The strategy's own hook, where ours may stand in its place."""
        return self._hooks[hook] if hook in self._hooks else getattr(self._strategy, hook)

    def __getattr__(self, name: str) -> Any:
        if name == "_strategy":  # of a copy in the making
            raise AttributeError(name)
        return getattr(self._strategy, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._strategy, name, value)

    def __repr__(self) -> str:
        return f"Observed({type(self._strategy).__name__}, {self.folder})"


def _passing(messages: Iterable[Message], look: Callable[[Message], None]) -> Iterable[Message]:
    """The same messages, each looked at before anybody else has it.

    A collection is handed on as it is; what makes messages one by one goes on doing so in its time.
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
