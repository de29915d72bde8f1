"""Rules that remember earlier rounds, against NumPy, with clients that miss rounds, and resumed."""

import numpy as np
import pytest
import torch

from fedlab import Federation
from fedlab.core.seeds import derive
from fedlab.results.checkpoint import Checkpoint
from fedlab.server.aggregation import Aggregation
from tests.federations import finished, small
from tests.server.votes import SIZE, STATE, changes_of, flat, model, vote

ROUNDS = [(0, 1, 2, 3, 4), (0, 1, 3, 4), (1, 2, 3, 4), (0, 1, 2, 3, 4)]
"""Clients of each round."""

REMEMBERS = [
    ("CenteredClipping", {}),
    ("CenteredClipping", {"momentum": 0.9, "radius": 0.5}),
    ("FoolsGold", {}),
    ("Bucketing", {"size": 2}),
    ("Bucketing", {"size": 1, "rule": "FedMedian", "momentum": 0.5}),
    ("Bucketing", {"size": 1, "rule": "FedAvgM", "server_momentum": 0.9}),
]


def sent(round):
    """Models of a round's clients by client."""
    random = np.random.default_rng(round)
    return {client: model(0.3 + random.standard_normal(SIZE)) for client in ROUNDS[round - 1]}


def one_round(rule, round):
    """Change of the global model in a round."""
    models = sent(round)
    done = vote([*models.values()], "", aggregation=rule, clients=[*models], round=round)
    return flat(done.arrays) - flat(STATE), done.used


def arrived(round):
    models = sent(round)
    return dict(zip(models, changes_of([*models.values()]), strict=True))


@pytest.mark.parametrize(("name", "options"), REMEMBERS)
def test_a_resumed_rule_has_the_same_bits(name, options, tmp_path):
    whole = Aggregation(name, options)
    expected = [one_round(whole, round)[0] for round in (1, 2, 3, 4)]
    first, second = Aggregation(name, options), Aggregation(name, options)
    for round in (1, 2):
        one_round(first, round)
    Checkpoint(2, STATE, first.memory()).save(tmp_path / "last.safetensors")
    second.recall(Checkpoint.load(tmp_path / "last.safetensors").memory)
    for round in (3, 4):
        np.testing.assert_array_equal(one_round(second, round)[0], expected[round - 1])
    assert not np.array_equal(one_round(Aggregation(name, options), 4)[0], expected[3])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FoolsGold", {}),
        ("CenteredClipping", {"momentum": 0.9}),
        ("Bucketing", {"rule": "CenteredClipping", "size": 2, "momentum": 0.9}),
    ],
)
def test_a_resumed_federation_has_the_same_bits(name, options, tmp_path):
    server = {"strategy": name, "options": options, "cohort": 5}
    scenario = small(server=server, data={"train": 140, "test": 40, "clients": 7})
    whole = finished(scenario)
    again = Federation(scenario, out=tmp_path / "run")
    again.step()
    again.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert all(torch.equal(value, resumed.state[name]) for name, value in whole.state.items())
    start = Federation(scenario).state
    assert any(not torch.equal(value, start[name]) for name, value in whole.state.items())


class TestCenteredClipping:
    @pytest.mark.parametrize("iterations", [1, 3])
    @pytest.mark.parametrize("radius", [None, 0.7])
    def test_it_clips_around_the_last_change(self, radius, iterations):
        options = {"iterations": iterations} | ({"radius": radius} if radius else {})
        rule, point = Aggregation("CenteredClipping", options), np.zeros(SIZE)
        for round in (1, 2, 3):
            changes = np.stack([*arrived(round).values()])
            for _ in range(iterations):
                apart = changes - point
                lengths = np.linalg.norm(apart, axis=1)
                bound = radius or np.median(lengths)
                point = point + (apart * np.minimum(1, bound / lengths)[:, None]).mean(0)
            np.testing.assert_allclose(one_round(rule, round)[0], point, atol=2e-6)

    def test_momentum_is_kept_for_each_client(self):
        rule = Aggregation("CenteredClipping", {"momentum": 0.8, "radius": 1e6})
        kept = {}
        for round in (1, 2, 3, 4):
            for client, change in arrived(round).items():
                kept[client] = 0.8 * kept[client] + 0.2 * change if client in kept else change
            mean = np.mean([kept[client] for client in ROUNDS[round - 1]], axis=0)
            np.testing.assert_allclose(one_round(rule, round)[0], mean, atol=2e-6)

    def test_an_attacker_moves_it_by_its_radius_alone(self):
        rule = Aggregation("CenteredClipping", {"radius": 0.5})
        models = [model(np.full(SIZE, 0.1))] * 4
        good = flat(vote(models, "", aggregation=rule).arrays)
        rule = Aggregation("CenteredClipping", {"radius": 0.5})
        models = [*models[:3], model(np.full(SIZE, -1e8))]
        moved = flat(vote(models, "", aggregation=rule).arrays)
        assert np.linalg.norm(moved - good) <= 2 * 0.5 / 4 * (1 + 1e-5)


def foolsgold(histories, present, confidence=1.0):
    """Algorithm 1 of the paper, entry by entry; weights of the clients that are there."""
    clients = list(histories)
    cosine = {
        (i, j): max(
            0.0,
            histories[i]
            @ histories[j]
            / np.linalg.norm(histories[i])
            / np.linalg.norm(histories[j]),
        )
        for i in clients
        for j in clients
        if i != j
    }
    largest = {i: max(cosine[i, j] for j in clients if j != i) for i in clients}
    alpha = {}
    for i in present:
        pardoned = []
        for j in clients:
            if j != i:
                ratio = largest[i] / largest[j] if largest[j] > largest[i] else 1.0
                pardoned.append(cosine[i, j] * ratio)
        alpha[i] = 1 - max(pardoned)
    top = max(alpha.values())
    weights = {}
    for i in present:
        value = min(alpha[i] / top, 0.99)
        weights[i] = 0.0 if value <= 0 else confidence * (np.log(value / (1 - value)) + 0.5)
    return np.asarray([min(1.0, max(0.0, weights[i])) for i in present])


class TestFoolsGold:
    @pytest.mark.parametrize("confidence", [1.0, 0.3])
    def test_it_is_its_definition_also_when_clients_drop_out(self, confidence):
        rule, histories = Aggregation("FoolsGold", {"confidence": confidence}), {}
        for round in (1, 2, 3, 4):
            changes = arrived(round)
            for client, change in changes.items():
                histories[client] = histories.get(client, 0) + change
            weights = foolsgold(histories, ROUNDS[round - 1], confidence)
            expected = np.average(np.stack([*changes.values()]), axis=0, weights=weights)
            found, used = one_round(rule, round)
            np.testing.assert_allclose(found, expected, atol=2e-6)
            assert used == set(np.flatnonzero(weights).tolist())

    def votes(self, rule, round, clients, sybils):
        """Used places in a round of honest clients with changes of their own, and of sybils."""
        random = np.random.default_rng(round)
        models = [
            model(np.full(SIZE, -1.0) if client in sybils else 3 * np.eye(SIZE)[client] + noise)
            for client, noise in zip(
                clients, 0.1 * random.standard_normal((len(clients), SIZE)), strict=True
            )
        ]
        return vote(models, "", aggregation=rule, clients=clients, round=round).used

    def test_sybils_are_left_out_in_any_number(self):
        rule = Aggregation("FoolsGold", {})
        assert self.votes(rule, 1, range(8), sybils=range(2, 8)) == {0, 1}

    def test_sybils_that_take_turns_are_left_out(self):
        rule = Aggregation("FoolsGold", {})
        self.votes(rule, 1, [0, 1, 2], sybils=[2])
        assert self.votes(rule, 2, [0, 1, 3], sybils=[3]) == {0, 1}

    def test_a_single_attacker_is_not_found(self):
        rule = Aggregation("FoolsGold", {})
        assert 2 in self.votes(rule, 1, [0, 1, 2], sybils=[2])

    def test_if_all_send_the_same_the_model_stays(self, caplog):
        done = vote([model(np.ones(SIZE))] * 3, "FoolsGold")
        assert done.used == frozenset()
        np.testing.assert_array_equal(flat(done.arrays), flat(STATE))
        assert "FoolsGold uses none of 3 replies" in caplog.text


class TestBucketing:
    def buckets(self, count, size, round=1):
        seed = derive(0, "central noise", round) % 2**32
        order = np.random.RandomState(seed).permutation(count)
        return [order[start : start + size] for start in range(0, count, size)]

    @pytest.mark.parametrize("size", [1, 2, 3])
    @pytest.mark.parametrize("count", [7, 9])
    def test_the_rule_sees_means_of_random_buckets(self, size, count):
        models = [model(c) for c in np.random.default_rng(3).standard_normal((count, SIZE))]
        changes = changes_of(models)
        means = [changes[bucket].mean(0) for bucket in self.buckets(count, size)]
        done = vote(
            models, "Bucketing", {"rule": "FedMedian", "size": size}, counts=[*range(1, 1 + count)]
        )
        found = flat(done.arrays) - flat(STATE)
        np.testing.assert_allclose(found, np.median(means, axis=0), atol=1e-6)
        assert done.used is None

    def test_all_members_of_a_chosen_bucket_are_used(self):
        models = [model(c) for c in np.random.default_rng(4).standard_normal((10, SIZE))]
        changes = changes_of(models)
        options = {"rule": "Krum", "num_malicious_nodes": 1}
        done = vote(models, "Bucketing", options)
        (bucket,) = [each for each in self.buckets(10, 2) if set(each.tolist()) == set(done.used)]
        found = flat(done.arrays) - flat(STATE)
        np.testing.assert_allclose(found, changes[bucket].mean(0), atol=1e-6)

    def test_attackers_in_some_buckets_are_outvoted(self):
        random = np.random.default_rng(5)
        good = 0.5 + 0.1 * random.standard_normal((11, SIZE))
        models = [model(change) for change in good]
        models[3] = models[4] = model(np.full(SIZE, -1e4))
        options = {"rule": "GeometricMedian"}
        found = flat(vote(models, "Bucketing", options).arrays) - flat(STATE)
        assert np.linalg.norm(found - 0.5) < 0.5

    def test_a_short_round_lowers_the_attackers_of_the_rule(self, caplog):
        rule = Aggregation("Bucketing", {"rule": "Krum", "num_malicious_nodes": 1}, cohort=9)
        models = [model(c) for c in np.random.default_rng(6).standard_normal((7, SIZE))]
        assert len(vote(models, "", aggregation=rule).used) in (1, 2)
        assert "Krum has 4 replies" in caplog.text
        caplog.clear()
        done = vote(models[:4], "", aggregation=rule)  # two buckets
        assert done.arrays == {}

    def test_momentum_comes_before_the_buckets(self):
        options = {"size": 1, "rule": "FedMedian", "momentum": 0.8}
        rule, kept = Aggregation("Bucketing", options), {}
        for round in (1, 2, 3, 4):
            for client, change in arrived(round).items():
                kept[client] = 0.8 * kept[client] + 0.2 * change if client in kept else change
            expected = np.median([kept[client] for client in ROUNDS[round - 1]], axis=0)
            np.testing.assert_allclose(one_round(rule, round)[0], expected, atol=2e-6)
