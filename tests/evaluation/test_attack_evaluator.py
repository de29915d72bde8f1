"""The evaluator replays each capture once, and names one that its replay does not give."""

import logging
from dataclasses import replace

import pytest

from fedlab.evaluation import attack_evaluator, replay
from fedlab.evaluation.attack_evaluator import CACHED, AttackEvaluator
from fedlab.scenario.tables import Reconstruct
from fedlab.server.captures import Capture
from tests.federations import PLAIN, finished, small

LEAK = {"role": "leaking", "clients": "0", "batch_size": 2}
ATTACK = {"clients": "0", "iterations": 1}
QUICK = Reconstruct(**PLAIN, iterations=1)


@pytest.fixture
def trainings(monkeypatch):
    """Counts trainings of a client in replays."""
    counted = []

    def run(task, *arguments, **options):
        counted.append((task.round, task.client))
        return original(task, *arguments, **options)

    original = replay.run_client_round
    monkeypatch.setattr(replay, "run_client_round", run)
    return counted


def test_several_attacks_replay_a_capture_once(trainings):
    attacks = [ATTACK, ATTACK | {"preset": "fast"}, ATTACK | {"labels": "inferred"}]
    federation = finished(small(roles=[LEAK], reconstructions=attacks, rounds=2))
    assert len(federation.folder.table("leakage")) == 2 * 3 * 2
    assert trainings == [(1, 0), (2, 0)]


def test_noise_needs_one_more_training(trainings):
    noise = {"name": "clip-noise", "noise_multiplier": 0.1, "clipping_norm": 1.0}
    attacks = [ATTACK, ATTACK | {"preset": "fast"}]
    finished(small(roles=[LEAK], defenses=[noise], reconstructions=attacks, rounds=1))
    assert trainings == [(1, 0), (1, 0)]


def test_later_questions_use_the_same_replay(trainings):
    federation = finished(small(roles=[LEAK], reconstructions=[ATTACK], rounds=1))
    federation.reconstruct(round=1, client=0, **PLAIN | {"iterations": 1})
    federation.consistency(round=1, client=0)
    assert len(trainings) == 1


def test_replays_of_few_captures_are_kept(trainings):
    federation = finished(small(captures={"keep": "all"}, rounds=2))
    evaluator = AttackEvaluator(federation.scenario, federation.federated)
    for number in (1, 2):
        for client in range(4):
            capture = Capture.load(federation.folder.captures, round=number, client=client)
            evaluator.evaluate(capture, QUICK, federation._loop.histories)
    assert len(trainings) == 8
    assert len(evaluator._truths) == CACHED


class TestDisagreement:
    def evaluated(self, federation, change):
        capture = Capture.load(federation.folder.captures, round=1, client=0)
        tensors = {name: change * tensor for name, tensor in capture.payload.tensors.items()}
        first = next(iter(tensors))
        tensors[first] = tensors[first] + (change != 1) * tensors[first].abs().max()
        wrong = replace(capture, payload=replace(capture.payload, tensors=tensors))
        evaluator = AttackEvaluator(federation.scenario, federation.federated)
        return evaluator.evaluate(wrong, QUICK, federation._loop.histories)

    def test_a_replay_that_differs_is_logged(self, caplog):
        federation = finished(small(roles=[LEAK], reconstructions=[ATTACK], rounds=1))
        with caplog.at_level(logging.WARNING, logger=attack_evaluator.__name__):
            leak = self.evaluated(federation, 1)
            assert leak.rows[0].payload_cosine > 0.9999
            assert not caplog.records
            leak = self.evaluated(federation, -1)
        assert "round 1: the update of client 0 differs from its replay" in caplog.text
        assert f"cosine {leak.rows[0].payload_cosine:.4f}" in caplog.text

    def test_noise_is_not_taken_for_a_difference(self, caplog):
        noise = {"name": "clip-noise", "noise_multiplier": 0.1, "clipping_norm": 1.0}
        federation = finished(
            small(roles=[LEAK], defenses=[noise], reconstructions=[ATTACK], rounds=1)
        )
        self.evaluated(federation, -1)
        assert "differs from its replay" not in caplog.text
