"""The round loop against plain numpy, with nodes in any order and replies that go missing."""

import copy

import numpy as np
import pytest
import torch
from flwr.app import Error

from fedlab import RunFailed
from fedlab.client.app import client_app
from fedlab.client.federated_data import FederatedData
from fedlab.engine.in_process import InProcessGrid
from fedlab.server.rounds import RoundLoop
from tests.federations import Tampered, small

LEAK = {"role": "leaking", "clients": "0", "batch_size": 3}
SKEWED = ("data.partition='dirichlet'", "data.alpha=1.0")


class Recording(Tampered):
    """A grid that keeps a copy of the last round's replies by client."""

    def __init__(self, scenario):
        self.replies = {}
        super().__init__(scenario, self._keep)

    def _keep(self, client, reply):
        self.replies[client] = copy.deepcopy(reply.content)
        return reply


class Scrambled(Tampered):
    """A grid whose nodes hold the partitions backwards, and reply from the last to the first."""

    def _context(self, node):
        context = super()._context(node)
        context.node_config["partition-id"] = self._clients - node
        return context

    def send_and_receive(self, messages, *, timeout=None):
        return reversed(list(super().send_and_receive(messages, timeout=timeout)))


class Losing(InProcessGrid):
    """A grid in which the reply of client 2 never arrives."""

    def send_and_receive(self, messages, *, timeout=None):
        for reply in super().send_and_receive(messages, timeout=timeout):
            if reply.metadata.message_type == "query" or reply.metadata.src_node_id != 3:
                yield reply


def loop(scenario, grid=None):
    federated = FederatedData.of(scenario)
    grid = grid or InProcessGrid(client_app(lambda _: federated), scenario.data.clients)
    state = {name: value.clone() for name, value in federated.model.state_dict().items()}
    return RoundLoop(
        grid, state, [name for name, _ in federated.model.named_parameters()], scenario
    )


def mean_of(arrays, counts):
    stacked = np.stack([array.astype(np.float64) for array in arrays])
    weights = np.asarray(counts, np.float64) / np.sum(counts)
    return np.tensordot(weights, stacked, axes=1)


def unchanged(_client, reply):
    return reply


def test_gradients_and_weights_are_averaged_together():
    scenario = small(*SKEWED, "training.lr_decay=0.5", roles=[LEAK])
    grid = Recording(scenario)
    rounds = loop(scenario, grid)
    rounds.step(scenario, 1)
    before = {name: value.clone().numpy() for name, value in rounds.state.items()}
    done = rounds.step(scenario, 2)
    counts = [3, *(len(part) for part in FederatedData.of(scenario).partitions[1:])]
    assert len(set(counts)) > 2
    assert [done.captures[client].payload.num_examples for client in range(4)] == counts
    for name, start in before.items():
        sent = [grid.replies[client]["payload"][name].numpy() for client in range(4)]
        models = [start - 0.05 * 0.5 * sent[0], *sent[1:]]
        np.testing.assert_allclose(
            done.state[name].numpy(), mean_of(models, counts), rtol=1e-5, atol=1e-7
        )
        assert done.state[name].dtype == torch.float32


def test_a_capture_is_what_went_out_and_came_back():
    scenario = small(roles=[LEAK])
    grid = Recording(scenario)
    rounds = loop(scenario, grid)
    before = {name: value.clone() for name, value in rounds.state.items()}
    done = rounds.step(scenario, 1)
    for client, capture in enumerate(done.captures):
        assert (capture.round, capture.clients) == (1, (client,))
        assert all(torch.equal(capture.global_state[name], before[name]) for name in before)
        for name, array in grid.replies[client]["payload"].items():
            np.testing.assert_array_equal(capture.payload.tensors[name].numpy(), array.numpy())
    assert done.captures[0].payload.kind == "gradient"
    assert done.captures[1].payload.kind == "weights"


@pytest.mark.parametrize("shared", [True, False])
def test_only_shared_statistics_are_averaged(shared):
    scenario = small(
        *SKEWED,
        model={"name": "resnet8", "width": 4, "norm": "batch"},
        training={"share_buffers": shared, "batch_size": 8},
    )
    grid = Recording(scenario)
    rounds = loop(scenario, grid)
    before = {name: value.clone() for name, value in rounds.state.items()}
    after = rounds.step(scenario, 1).state
    counts = [len(part) for part in FederatedData.of(scenario).partitions]
    buffers = [name for name in before if "running_" in name]
    counters = [name for name in before if "num_batches" in name]
    assert buffers
    assert counters
    for name in counters:
        assert after[name].dtype == torch.int64
        assert torch.equal(after[name], before[name])
        if shared:
            assert any(grid.replies[client]["buffers"][name].numpy() > 0 for client in range(4))
    for name in buffers:
        if shared:
            sent = [grid.replies[client]["buffers"][name].numpy() for client in range(4)]
            expected = mean_of(sent, counts)
            np.testing.assert_allclose(after[name].numpy(), expected, rtol=1e-5, atol=1e-7)
            assert not torch.equal(after[name], before[name])
        else:
            assert torch.equal(after[name], before[name])


def test_node_ids_and_reply_order_change_no_bit():
    scenario = small(*SKEWED, defenses=[{"name": "dp-sgd", "clients": "1"}])
    straight, scrambled = loop(scenario), loop(scenario, Scrambled(scenario, unchanged))
    for number in (1, 2):
        one, other = straight.step(scenario, number), scrambled.step(scenario, number)
    assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)
    assert one.histories == other.histories


def test_a_failing_node_is_named_by_its_partition():
    scenario = small()

    def node_one_fails(client, reply):
        return Error(code=2, reason="RuntimeError: no") if client == 0 else reply

    rounds = loop(scenario, Scrambled(scenario, node_one_fails))
    assert list(rounds.step(scenario, 1).refused) == [3]


@pytest.mark.parametrize("declared", ["{", None])
def test_a_release_without_history_is_unprotected(declared):
    scenario = small(defenses=[{"name": "dp-sgd"}])

    def unreadable(client, reply):
        if client == 1:
            reply.content["declared"]["history"] = declared or "[]"
        if client == 2:
            return Error(code=2, reason="RuntimeError: no")
        return reply

    noted = []
    rounds = loop(scenario, Tampered(scenario, unreadable))
    done = rounds.step(scenario, 1, on_spent=noted.append)
    assert sorted(done.refused) == [1, 2]
    spent = {client: [each.mechanism for each in h] for client, h in done.histories.items()}
    assert spent == {0: ["dp-sgd"], 1: ["none"], 3: ["dp-sgd"]}  # 2 sent nothing
    assert noted[0][1] == rounds.histories[1]


def test_a_missing_reply_is_left_out():
    scenario = small(*SKEWED)
    federated = FederatedData.of(scenario)
    rounds = loop(scenario, Losing(client_app(lambda _: federated), 4))
    done = rounds.step(scenario, 1)
    assert done.refused == {2: "it did not reply"}
    assert [capture.clients for capture in done.captures] == [(0,), (1,), (3,)]
    assert sorted(done.accepted) == sorted(done.histories) == [0, 1, 3]
    captured = [capture.payload for capture in done.captures]
    for name, value in done.state.items():
        expected = mean_of(
            [payload.tensors[name].numpy() for payload in captured],
            [payload.num_examples for payload in captured],
        )
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("share", "goes_on"), [(0.25, True), (0.24, False)])
def test_failures_are_allowed_up_to_the_share(share, goes_on):
    scenario = small(f"server.max_failures={share}")
    federated = FederatedData.of(scenario)
    rounds = loop(scenario, Losing(client_app(lambda _: federated), 4))
    before = dict(rounds.state)
    if goes_on:
        assert len(rounds.step(scenario, 1).refused) == 1
    else:
        with pytest.raises(RunFailed, match=r"round 1: 1 of 4 clients .* client 2 because it did"):
            rounds.step(scenario, 1)
        assert all(rounds.state[name] is value for name, value in before.items())


def test_more_examples_than_are_believed_do_not_count():
    scenario = small(*SKEWED)
    sizes = [len(part) for part in FederatedData.of(scenario).partitions]
    limited = scenario.changed(server={"max_examples": sorted(sizes)[1]})
    done = loop(limited).step(limited, 1)
    most = sorted(sizes)[1]
    assert sorted(done.refused) == [client for client, size in enumerate(sizes) if size > most]
    assert all("more than" in reason for reason in done.refused.values())


def test_the_server_knows_the_adaptive_bound():
    adaptive = {"name": "dp-sgd", "clipping": "adaptive", "clipping_norm": 0.3}
    scenario = small(rounds=2, defenses=[adaptive | {"clients": "1"}])
    rounds = loop(scenario)
    first, second = (rounds.step(scenario, number).captures[1] for number in (1, 2))
    before, now = rounds.histories[1]
    assert first.facts.clipping_norm == 0.3
    assert second.facts.clipping_norm == now.clipping_norm == before.next_clipping_norm != 0.3


def test_fedprox_sends_its_proximal_weight():
    prox = small("training.epochs=2", server={"strategy": "FedProx", "options": {"proximal_mu": 1}})
    plain = small("training.epochs=2")
    with_mu, without = loop(prox).step(prox, 1), loop(plain).step(plain, 1)
    assert {task.proximal_mu for task in with_mu.tasks.values()} == {1.0}
    assert {task.proximal_mu for task in without.tasks.values()} == {0.0}
    assert any(not torch.equal(with_mu.state[name], without.state[name]) for name in with_mu.state)


def test_a_reason_of_several_lines_becomes_one():
    scenario = small()

    def failing(_client, _reply):
        return Error(code=2, reason="RuntimeError: sizes differ:\n\tweight\n\tbias")

    with pytest.raises(RunFailed) as caught:
        loop(scenario, Tampered(scenario, failing)).step(scenario, 1)
    assert "the client failed: RuntimeError: sizes differ" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_momentum_pairs_shared_statistics_correctly():
    """Momentum is still zero in round 1, so FedAvgM must give what FedAvg gives."""
    tables = {
        "model": {"name": "resnet8", "width": 4, "norm": "batch"},
        "training": {"share_buffers": True, "batch_size": 8},
    }
    plain = small(**tables)
    server = {"strategy": "FedAvgM", "options": {"server_momentum": 0.9}}
    momentum = small(**tables, server=server)
    expected = loop(plain).step(plain, 1).state
    found = loop(momentum).step(momentum, 1).state
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), rtol=1e-4, atol=1e-6)
