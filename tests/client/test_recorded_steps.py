"""A recorded step is replayed without Python, so all that it needs must be in its tensors."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fedlab.client import recorded_steps
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.defenses import Defense
from fedlab.protocol.planning import task_for
from tests.federations import FORGETFUL, small

WARM_UPS = 2


class Quiet(Defense):
    """Leaves the pipeline as it is, as does a defense that changes the network by hooks."""

    def wrap(self, pipeline, context):
        return pipeline


class Tape(TorchDispatchMode):
    """Stands in for a CUDA graph: replays kernels on the memory that they were recorded on."""

    def __init__(self, function, device):
        super().__init__()
        self.function, self.calls, self.kernels, self.replays = function, 0, [], 0

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        result = kernel(*args, **(kwargs or {}))
        self.kernels.append((kernel, args, kwargs or {}, result))
        return result

    def stream(self):
        return nullcontext()

    def join(self):
        pass

    def __call__(self):
        self.calls += 1
        if self.calls <= WARM_UPS:
            self.function()
        elif self.calls == WARM_UPS + 1:
            with self:
                self.function()
        else:
            self.replays += 1
            with torch.no_grad():
                self.replay()

    def replay(self):
        for kernel, args, kwargs, recorded in self.kernels:
            result = kernel(*args, **kwargs)
            pairs = zip(_tensors(recorded), _tensors(result), strict=True)
            for own, new in pairs:
                if own.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    own.copy_(new)


def _tensors(result):
    several = result if isinstance(result, tuple | list) else [result]
    return [each for each in several if isinstance(each, torch.Tensor)]


class Machine:
    """A federation on a machine that records steps by tapes, beside one that does not."""

    def __init__(self, *overrides, **tables):
        self.scenario = small(*overrides, **tables)
        self.plain = FederatedData.of(self.scenario)
        self.tapes = []
        self.taped = replace(FederatedData.of(self.scenario), recorder=self._record)
        self.state = self.plain.state

    def _record(self, function, device):
        self.tapes.append(Tape(function, device))
        return self.tapes[-1]

    @property
    def replays(self):
        return [tape.replays for tape in self.tapes]

    def is_same(self, *, round, client, mu=0.0):
        """Whether a client sends the same bits on both; its weights become the global ones."""
        task = task_for(self.scenario, round=round, client=client, proximal_mu=mu)
        plain, taped = (
            run_client_round(task, each, self.state, ()).sent.tensors
            for each in (self.plain, self.taped)
        )
        same = all(torch.equal(plain[name], taped[name]) for name in plain)
        self.state = {**self.state, **plain}
        return same and plain.keys() == taped.keys()


@pytest.mark.parametrize("network", ["lenet", "convnet", "mlp"])
@pytest.mark.parametrize(("momentum", "mu"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.1)])
def test_replayed_clients_send_the_same_bits(network, momentum, mu):
    # Forty images in batches of sixteen: three steps an epoch, the last of eight images.
    machine = Machine(
        f"model.name={network}",
        "training.epochs=2",
        f"training.momentum={momentum}",
        "training.weight_decay=0.01",
    )
    assert all(machine.is_same(round=1, client=client, mu=mu) for client in (0, 1, 2))
    assert machine.replays == [3 * 4 - WARM_UPS - 1, 3 * 2 - WARM_UPS - 1]


def test_global_weights_of_a_later_round_count():
    machine = Machine("training.epochs=2")
    assert all(machine.is_same(round=round, client=0, mu=0.5) for round in (1, 2, 3))
    assert machine.replays[0] > 6


def test_another_learning_rate_is_recorded_anew():
    machine = Machine("training.lr_decay=0.5", "training.epochs=3")
    assert machine.is_same(round=1, client=0)
    assert machine.is_same(round=1, client=1)
    assert len(machine.tapes) == 2
    assert machine.is_same(round=2, client=0)
    assert len(machine.tapes) == 4
    assert machine.replays[2] == 3


def test_only_a_few_shapes_are_recorded(monkeypatch):
    monkeypatch.setattr(recorded_steps, "MOST_RECORDED", 1)
    machine = Machine("training.epochs=2")
    assert all(machine.is_same(round=1, client=client) for client in (0, 1))
    assert machine.replays == [2 * 4 - WARM_UPS - 1]


@pytest.mark.parametrize("defense", ["pruning", "mixup", "secure-aggregation"])
def test_defenses_of_batch_or_update_are_replayed(defense):
    machine = Machine("training.epochs=2", defenses=[{"name": defense}])
    assert all(machine.is_same(round=1, client=client) for client in (0, 1, 2))
    assert machine.replays[0] > 0


@pytest.mark.parametrize(
    "tables",
    [
        {"defenses": [{"name": "dp-sgd"}]},
        {"defenses": [{"name": "soteria"}]},
        {"defenses": [{"name": "tests.client.test_recorded_steps:Quiet"}]},
        {"roles": [{"role": "leaking", "clients": "all"}]},
        {"model": FORGETFUL},
    ],
    ids=["dp-sgd", "soteria", "foreign", "leaking", "dropout"],
)
def test_what_a_replay_would_miss_is_computed(tables):
    machine = Machine(**tables)
    assert machine.plain.recorded_steps is None
    task = task_for(machine.scenario, round=1, client=0)
    run_client_round(task, machine.taped, machine.state, ())
    assert machine.tapes == []


def test_a_cpu_records_nothing():
    assert FederatedData.of(small("engine.cuda_graph=true")).recorder is None
