"""What the attacker assumes of an honest client reproduces its update from the true images."""

from dataclasses import replace

import pytest

from attacks.reconstruction import consistency
from fedlab import Federation, Scenario
from fedlab.core.errors import BadInput
from fedlab.evaluation.attack_evaluator import AttackEvaluator
from fedlab.evaluation.replay import replay
from fedlab.protocol.planning import task_for
from fedlab.scenario.tables import Reconstruct
from fedlab.server.captures import Capture

HONEST = """
name = "honest"
rounds = 2
data = { train = 24, test = 40, clients = 2 }
model = { name = "convnet", width = 4, norm = "none" }
training = { epochs = 2, batch_size = 4, lr = 0.05, momentum = 0.9, weight_decay = 0.01 }
engine = { device = "cpu" }
captures = { keep = "all" }
"""
DP = '[[defenses]]\nname = "dp-sgd"\nnoise_multiplier = 0.0\nclipping_norm = 0.5\n'


class Case:
    """The update of client 0 in round 2, and what the Referee knows of it."""

    def __init__(self, text="", *overrides):
        self.federation = Federation(Scenario.parse(HONEST + text, overrides))
        self.federation.run()
        scenario, federated = self.federation.scenario, self.federation.federated
        self.capture = Capture.load(self.federation.folder.captures, round=2, client=0)
        history = self.federation.ledger.histories[0]
        tasks = {0: task_for(scenario, round=2, client=0)}
        self.truth = replay(federated, self.capture, tasks, {0: history[:1]})
        self.attacker = AttackEvaluator(scenario, federated).attacker

    def held(self, order="granted", **changes):
        """Consistency of the true images with what the attacker assumes."""
        granted = self.truth.order if order == "granted" else None
        settings = Reconstruct(order="known" if granted else order)
        knowledge = self.attacker.knowledge(self.capture, settings, self.truth.labels, granted)
        return consistency(
            self.attacker.model,
            self.capture.global_state,
            self.capture.payload,
            replace(knowledge, **changes),
            self.federation.federated.data.normalise(self.truth.inputs),
            self.truth.labels,
        )


def set_norm(norm):
    return f'model.norm="{norm}"'


@pytest.mark.parametrize("norm", ["none", "group", "batch"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_honest_client(norm, mode):
    case = Case("", set_norm(norm), f'training.mode="{mode}"')
    assert case.capture.payload.kind == "weights"
    assert case.capture.payload.steps == 6
    assert len(case.truth.inputs) == 12
    assert case.truth.payload_cosine > 0.999999
    found = case.held()
    assert found.cosine > 0.99999
    assert found.relative_error < 1e-3


@pytest.mark.parametrize("order", ["sequential", "average"])
def test_assumed_order_is_worse_over_two_epochs(order):
    case = Case()
    granted, assumed = case.held(), case.held(order)
    assert assumed.cosine < granted.cosine
    assert assumed.relative_error > 100 * granted.relative_error


def test_truth_of_one_epoch_is_in_batch_order():
    """So the assumed order is the true one, as the public code has it."""
    case = Case("", "training.epochs=1")
    assert case.held("sequential").cosine > 0.99999


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_wrong_mode_of_batch_norm_shows(mode):
    case = Case("", set_norm("batch"), f'training.mode="{mode}"')
    right, wrong = case.held(), case.held(training_mode=mode != "train")
    assert wrong.cosine < right.cosine - 1e-3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_client_with_dp_sgd_and_poisson_batches(seed):
    case = Case(DP, f"seed={seed}")
    sizes = {len(step) for step in case.truth.order}
    assert len(sizes) > 1  # or this would say nothing about their division
    found = case.held()
    assert found.cosine > 0.99999
    assert found.relative_error < 1e-3
    assert case.held(clipping_norm=None).cosine < found.cosine


def test_an_empty_poisson_batch_among_others():
    case = Case(DP, "training.batch_size=1", "training.momentum=0.5")
    sizes = [len(step) for step in case.truth.order]
    assert 0 in sizes
    assert case.held().cosine > 0.99999


def test_a_leaking_client_with_a_poisson_batch():
    leak = '[[roles]]\nrole = "leaking"\nclients = "0"\nbatch_size = 4\nsampling = "poisson"\n'
    case = Case(leak + DP)
    assert case.capture.payload.kind == "gradient"
    assert len(case.truth.inputs) != 4
    found = case.held()
    assert found.cosine > 0.99999
    assert found.relative_error < 1e-3


def test_fedprox_pull_is_simulated():
    case = Case("", 'server.strategy="FedProx"', "server.options={proximal_mu=1.0}")
    assert case.capture.facts.proximal_mu == 1.0
    found = case.federation.consistency(round=2, client=0)
    assert found == case.held()
    assert found.relative_error < 1e-3


def test_a_kept_reply_is_asked_for_and_noise_shows():
    noisy = Case(DP, "defenses.0.noise_multiplier=1.0")
    assert noisy.federation.consistency(round=2, client=0).cosine < 0.9
    with pytest.raises(BadInput, match="no reply of client 0 was kept in round 9"):
        noisy.federation.consistency(round=9, client=0)
