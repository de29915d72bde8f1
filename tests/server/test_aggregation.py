"""One round of each payload kind against plain numpy, and every strategy's resume."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy
from flwr.serverapp.exception import AggregationError

from attacks.payload import Payload
from fedlab import BadInput, RunFailed
from fedlab.engine.in_process import InProcessGrid
from fedlab.scenario.rules import RULES
from fedlab.scenario.tables import CentralDP
from fedlab.server.aggregation import Aggregation, WeightedUpdate

STATE = {
    "weight": torch.tensor([[1.0, -2.0], [0.5, 3.0]]),
    "bias": torch.tensor([0.25, -0.75]),
}


def random_tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(value.shape, generator=generator) for name, value in STATE.items()}


@pytest.fixture(autouse=True)
def _grid():
    InProcessGrid(None, 1)  # Flower makes messages only once a task has an identity


def message(node):
    content = RecordDict(
        {
            "arrays": ArrayRecord({n: Array(t.numpy()) for n, t in STATE.items()}),
            "config": ConfigRecord(),
            "metrics": MetricRecord({"num-examples": 1}),
        }
    )
    return Message(content, reply_to=Message(RecordDict(), node, "train"))


def aggregate(payloads, name="FedAvg", options=None, lr=0.1):
    aggregation = Aggregation(name, options or {})
    aggregation.configure(1, STATE, InProcessGrid(None, len(payloads)), range(1, 1 + len(payloads)))
    replies = [
        WeightedUpdate(
            message(node + 1), payload.num_examples, payload.as_weights(STATE, lr=lr), node
        )
        for node, payload in enumerate(payloads)
    ]
    return aggregation.aggregate(1, replies).arrays


@pytest.mark.parametrize("kinds", [("weights",) * 3, ("gradient",) * 3, ("gradient", "weights")])
def test_fedavg_is_the_weighted_mean(kinds):
    counts, lr = (10, 1, 7), 0.3
    payloads = [
        Payload(kind, random_tensors(seed), num_examples=counts[seed], steps=1)
        for seed, kind in enumerate(kinds)
    ]
    merged = aggregate(payloads, lr=lr)
    for name, before in STATE.items():
        models = [
            payload.tensors[name].numpy()
            if payload.kind == "weights"
            else before.numpy() - lr * payload.tensors[name].numpy()
            for payload in payloads
        ]
        expected = np.average(models, axis=0, weights=counts[: len(kinds)])
        np.testing.assert_allclose(merged[name].numpy(), expected, rtol=1e-6)


def test_flowers_median_is_the_median():
    payloads = [Payload("weights", random_tensors(s), num_examples=5, steps=1) for s in range(5)]
    merged = aggregate(payloads, "FedMedian")
    for name in STATE:
        expected = np.median([p.tensors[name].numpy() for p in payloads], axis=0)
        np.testing.assert_allclose(merged[name].numpy(), expected, rtol=1e-6)


def test_server_momentum_survives_a_resume():
    def rounds(aggregation, start, numbers):
        state = dict(start)
        for number in numbers:
            payload = Payload("weights", random_tensors(number), num_examples=3, steps=1)
            aggregation.configure(number, state, InProcessGrid(None, 1), [1])
            state = aggregation.aggregate(
                number, [WeightedUpdate(message(1), payload.num_examples, payload.tensors, 0)]
            ).arrays
        return state

    for name, options in (
        ("FedAvg", {}),
        ("FedAvgM", {"server_momentum": 0.9, "server_learning_rate": 0.5}),
        ("FedAdam", {"eta": 0.1}),
    ):
        whole = rounds(Aggregation(name, options), STATE, range(1, 5))
        first, second = Aggregation(name, options), Aggregation(name, options)
        middle = rounds(first, STATE, range(1, 3))
        second.recall(first.memory())
        resumed = rounds(second, middle, range(3, 5))
        forgetful = rounds(Aggregation(name, options), middle, range(3, 5))
        for key, value in whole.items():
            assert torch.equal(value, resumed[key]), name
            if name != "FedAvg":
                assert not torch.equal(value, forgetful[key]), name


def test_all_rules_of_flower_are_found_by_name():
    flowers = {
        name
        for name, found in vars(strategy).items()
        if isinstance(found, type) and issubclass(found, strategy.FedAvg) and "Xgb" not in name
    }
    ours = {"NormClipping", "GeometricMedian", "FLTrust", "FLAME", "DnC", "CenteredClipping"}
    ours |= {"Bucketing", "FoolsGold"}
    assert set(RULES.builtin) == flowers | ours


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("FedAvgg", {}, 'there is no aggregation rule "FedAvgg"; did you mean "FedAvg"'),
        ("FedAvgM", {"momentum": 0.9}, "FedAvgM has no option momentum; it has .*server_momentum"),
        ("FedAvg", {"fraction_train": 0.5}, "FedAvg has no option fraction_train"),
        ("FedAvg", {"eta": 1}, "FedAvg has no option eta; it has none$"),
    ],
)
def test_a_rule_that_cannot_be_made_is_named(name, options, sentence):
    with pytest.raises(BadInput, match=sentence):
        Aggregation(name, options)


def test_too_few_replies_leave_the_model_unchanged():
    payloads = [Payload("weights", random_tensors(s), num_examples=5, steps=1) for s in range(2)]
    assert aggregate(payloads, "Bulyan", {"num_malicious_nodes": 1}) == {}


def test_a_rule_that_raises_stops_the_run(monkeypatch):
    aggregation = Aggregation("FedMedian", {})
    aggregation.configure(1, STATE, InProcessGrid(None, 1), [1])

    def refuse(*_):
        raise AggregationError("no median today")

    monkeypatch.setattr(aggregation._inner, "aggregate_train", refuse)
    with pytest.raises(
        RunFailed, match=r'round 1: aggregation rule "FedMedian" failed: .*no median today'
    ):
        aggregation.aggregate(1, [WeightedUpdate(message(1), 1, STATE, 0)])


@pytest.mark.parametrize(
    ("name", "options"), [("FedAvgM", {"server_momentum": 0.9}), ("FedAdam", {})]
)
def test_momentum_of_a_scalar_is_kept(name, options):
    state = STATE | {"scale": torch.tensor(1.5)}
    aggregation = Aggregation(name, options)
    for number in (1, 2):
        sent = {key: value + number for key, value in state.items()}
        aggregation.configure(number, state, InProcessGrid(None, 1), [1])
        state = aggregation.aggregate(number, [WeightedUpdate(message(1), 3, sent, 0)]).arrays
    remembered = {path.split("/")[0] for path in aggregation.memory()}
    assert remembered > {"current_arrays"}


CENTRAL = CentralDP(clipping_norm=0.5, noise_multiplier=0.0)


def central(payloads, settings=CENTRAL, seed=0, round=1):
    aggregation = Aggregation("FedAvg", {}, central=settings, seed=seed)
    nodes = range(1, 1 + len(payloads))
    aggregation.configure(round, STATE, InProcessGrid(None, len(payloads)), nodes)
    votes = [
        WeightedUpdate(message(node), payload.num_examples, payload.tensors, node)
        for node, payload in zip(nodes, payloads, strict=True)
    ]
    return aggregation.aggregate(round, votes).arrays


def test_central_dp_clips_and_weighs_replies_equally():
    payloads = [
        Payload("weights", random_tensors(seed), num_examples=count, steps=1)
        for seed, count in enumerate((10, 1, 7))
    ]
    merged = central(payloads)
    changes = []
    for payload in payloads:
        change = {name: payload.tensors[name] - before for name, before in STATE.items()}
        norm = torch.sqrt(sum(part.pow(2).sum() for part in change.values()))
        changes.append({name: part * min(1.0, 0.5 / norm) for name, part in change.items()})
    for name, before in STATE.items():
        mean = before + torch.stack([change[name] for change in changes]).mean(0)
        torch.testing.assert_close(merged[name], mean, rtol=1e-5, atol=1e-6)


def test_central_noise_follows_seed_and_round():
    payloads = [Payload("weights", random_tensors(s), num_examples=1, steps=1) for s in range(2)]
    noisy = CentralDP(clipping_norm=0.5, noise_multiplier=1.0)
    np.random.seed(5)
    expected = np.random.RandomState(5).rand()
    one, again = central(payloads, noisy), central(payloads, noisy)
    assert np.random.rand() == expected
    assert all(torch.equal(one[name], again[name]) for name in STATE)
    for other in (central(payloads, noisy, seed=1), central(payloads, noisy, round=2)):
        assert not torch.equal(one["weight"], other["weight"])


def test_central_noise_has_the_stated_deviation():
    state = {"weight": torch.zeros(200, 200)}
    changed = {"weight": torch.full((200, 200), 1e-6)}
    payloads = [Payload("weights", changed, num_examples=1, steps=1) for _ in range(4)]
    aggregation = Aggregation(
        "FedAvg", {}, central=CentralDP(clipping_norm=0.5, noise_multiplier=3.0)
    )
    aggregation.configure(1, state, InProcessGrid(None, 4), range(1, 5))
    votes = [
        WeightedUpdate(message(node), 1, payload.tensors, node)
        for node, payload in enumerate(payloads, 1)
    ]
    drawn = aggregation.aggregate(1, votes).arrays["weight"]
    # Noise of 3 x 0.5 on the sum of four; six standard errors of 40,000 draws.
    assert float(drawn.std()) == pytest.approx(3.0 * 0.5 / 4, rel=6 / (2 * 40_000) ** 0.5)


def test_a_reply_that_changes_nothing_is_one_sentence():
    with pytest.raises(RunFailed, match="a reply changes nothing"):
        central([Payload("weights", STATE, num_examples=1, steps=1)] * 2)
