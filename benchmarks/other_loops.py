"""The federation of ``benchmarks.federation`` by others: plain processes, Flower and pfl-research.

All train the same network on the same images with the same batches of SGD, except that pfl-research
does not shuffle them. pfl-research needs an older dp-accounting than fedlab, so it cannot be one of
its dependencies: ``pip install --no-deps pfl==0.6.0 multiprocess dill prv-accountant`` adds it.
"""

import multiprocessing
import os
import time
from pathlib import Path
from statistics import median

import torch
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.bare import Loop, State, add
from benchmarks.family import FamilyMemory
from benchmarks.racers import Outcome, warm_up
from fedlab.core.devices import prepare
from fedlab.core.digest import digest
from fedlab.scenario.scenario import Scenario

PROCESSES = 2
"""Number of processes of the first two."""

_loop: Loop | None = None


def by_processes(scenario: Scenario) -> Outcome:
    """Run the bare loop in two processes of a pool, which load images and network once."""
    loop = Loop.of(scenario)
    state, clock = loop.state, _Clock()
    context = torch.multiprocessing.get_context("spawn")
    with FamilyMemory() as memory, context.Pool(PROCESSES, _start, [scenario]) as pool:
        pool.map(_ready, range(PROCESSES), chunksize=1)
        clock.start()
        clients = scenario.data.clients
        for number in range(1, scenario.rounds + 1):
            asked = [(state, number, client) for client in range(clients)]
            average: State = {}
            found = pool.starmap(_trained, asked, chunksize=-(-clients // PROCESSES))
            for client, one in enumerate(found):
                add(average, one, share=loop.share(client))
            state = average
            accuracy, _ = loop.scores(state)
            clock.note()
    return clock.outcome(state, accuracy, memory.peak)


def by_flower(scenario: Scenario) -> Outcome:
    """Run a plain Flower app by Flower's own simulation on Ray, with two clients at once."""
    from flwr.app import ArrayRecord, MetricRecord
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    # Ray's processes start elsewhere, where another package's module of this name comes first.
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    loop, clock = Loop.of(scenario), _Clock()
    final: dict[str, State | float] = {}
    client, server = ClientApp(), ServerApp()

    @client.train()
    def train(message: object, context: object) -> object:
        return _answer(scenario, message, context)

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        final["state"] = state = dict(arrays.to_torch_state_dict())
        final["accuracy"], loss = loop.scores(state)
        if number == 0:
            clock.start()
        else:
            clock.note()
        return MetricRecord({"loss": loss})

    @server.main()
    def main(grid: Grid, _: object) -> None:
        clients = scenario.data.clients
        least = {"min_train_nodes": clients, "min_available_nodes": clients}
        strategy = FedAvg(fraction_evaluate=0.0, **least)
        initial = ArrayRecord(loop.state)
        strategy.start(grid, initial, num_rounds=scenario.rounds, evaluate_fn=evaluate)

    resources = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"num_cpus": PROCESSES, "log_to_driver": False},
    }
    with FamilyMemory() as memory:
        run_simulation(server, client, scenario.data.clients, backend_config=resources)
    return clock.outcome(final["state"], final["accuracy"], memory.peak)


def by_pfl(scenario: Scenario) -> Outcome:
    """Run pfl-research's simulation in this process.

    Raises:
        ImportError: If it is not installed.
    """
    # By the name of the process it tells whether to prepare for training at all.
    multiprocessing.current_process().name = "MainProcess"
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel

    warm_up(scenario)
    loop, clock = Loop.of(scenario), _Clock()
    accuracies: list[float] = []
    network = _WithLoss(loop)
    everyone = list(range(scenario.data.clients))

    def of(client: int) -> Dataset:
        members = loop.shards[client]
        return Dataset((loop.data.train_images[members], loop.data.train_labels[members]))

    class Evaluate(TrainingProcessCallback):
        def after_central_iteration(
            self, aggregate_metrics: object, model: object, *, central_iteration: int
        ) -> tuple[bool, Metrics]:
            accuracies.append(loop.scores(loop.state)[0])
            clock.note()
            return False, Metrics()

    clients = FederatedDataset(of, get_user_sampler("minimize_reuse", everyone))
    settings = scenario.training
    clock.start()
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=scenario.rounds,
            evaluation_frequency=scenario.rounds + 1,
            train_cohort_size=len(everyone),
            val_cohort_size=0,
        ),
        SimulatedBackend(clients, clients, postprocessors=[WeightByDatapoints()]),
        PyTorchModel(
            network,
            torch.optim.SGD,
            central_optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        ),
        NNTrainHyperParams(
            local_learning_rate=settings.lr,
            local_num_epochs=settings.epochs,
            local_batch_size=settings.batch_size,
        ),
        NNEvalHyperParams(local_batch_size=None),
        [Evaluate()],
    )
    return clock.outcome(loop.state, accuracies[-1], 0.0)


class _WithLoss(nn.Module):
    """The network with the functions by which pfl-research trains and measures it."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._model, self._data = loop.model, loop.data

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        inputs = self._data.normalise(self._data.pixels(images))
        return functional.cross_entropy(self._model.train()(inputs), labels)

    def metrics(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        return {}


class _Clock:
    """Wall times of rounds."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def start(self) -> None:
        """Begin the first round."""
        self._times = [time.perf_counter()]

    def note(self) -> None:
        """End a round."""
        self._times.append(time.perf_counter())

    def outcome(self, state: State, accuracy: float, peak: float) -> Outcome:
        """What the rounds have cost and come to."""
        each = [end - start for start, end in zip(self._times, self._times[1:], strict=False)]
        later = median(each[2:])
        return Outcome(sum(each), digest(state), accuracy, family_peak=peak, later=later)


def _start(scenario: Scenario) -> None:
    """Prepare a process that trains clients."""
    global _loop
    warm_up(scenario)
    _loop = Loop.of(scenario)


def _ready(_: int) -> None:
    time.sleep(0.5)  # so that each process takes one of these calls


def _trained(state: State, number: int, client: int) -> State:
    assert _loop is not None
    return {n: t.clone() for n, t in _loop.trained(state, number, client).state_dict().items()}


def _answer(scenario: Scenario, message: object, context: object) -> object:
    """Train a client of the plain Flower app."""
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

    global _loop
    if _loop is None:
        prepare(scenario.engine.threads)
        _loop = Loop.of(scenario)
    client = int(context.node_config["partition-id"])
    number = int(message.content["config"]["server-round"])
    state = dict(message.content["arrays"].to_torch_state_dict())
    trained = _trained(state, number, client)
    facts = MetricRecord({"num-examples": len(_loop.shards[client])})
    return Message(RecordDict({"arrays": ArrayRecord(trained), "metrics": facts}), reply_to=message)
