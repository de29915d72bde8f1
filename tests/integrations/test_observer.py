"""observe: the app does not change, and everything is recorded."""

import logging
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    Krum,
    Strategy,
)

import fedlab
from attacks.knowledge import LocalSGD
from fedlab import BadInput, observe
from fedlab.engine.in_process import InProcessGrid
from fedlab.integrations import recorder as recording
from fedlab.integrations.recorded_attack import reconstruct_capture
from fedlab.server.captures import Capture
from tests.integrations import plain_app
from tests.integrations.plain_app import (
    ADAM_LR,
    CLASSES,
    LR,
    MEAN,
    SHAPE,
    STD,
    Net,
    digits,
    initial_arrays,
)

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {"model": Net(), "shape": SHAPE, "classes": CLASSES, "mean": MEAN, "std": STD}
ONE_STEP = LocalSGD(lr=LR)


class Wire(InProcessGrid):
    """A grid that remembers what went over it, and hands replies over in another order."""

    def __init__(self, clients=4):
        super().__init__(plain_app.app, clients)
        self.replies = {}

    def send_and_receive(self, messages, *, timeout=None):
        replies = list(super().send_and_receive(messages, timeout=timeout))
        for reply in replies:
            if reply.metadata.message_type == "train" and reply.has_content():
                record = reply.content.array_records.get("arrays")
                self.replies[len(self.replies)] = (reply.metadata.src_node_id, record)
        return replies[::-1]


def run(strategy, *, rounds=2, clients=4, arrays=None, **config):
    """Seeds as a careful user sets them, then the app's server."""
    random.seed(3)
    np.random.seed(3)
    grid = Wire(clients)
    result = strategy.start(
        grid=grid,
        initial_arrays=initial_arrays() if arrays is None else arrays,
        num_rounds=rounds,
        train_config=ConfigRecord(config),
    )
    return result, grid


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


class OwnStart(Strategy):
    """A strategy of somebody's own: its start, a lazy configure, and messages unlike each other."""

    def configure_train(self, server_round, arrays, config, grid):
        self.drawn = []
        for node in grid.get_node_ids():
            self.drawn.append(random.random())
            own = {name: Array(array.numpy() + np.float32(node)) for name, array in arrays.items()}
            content = RecordDict({"arrays": ArrayRecord(own), "config": config})
            yield Message(content, node, MessageType.TRAIN)

    def aggregate_train(self, server_round, replies):
        sound = [each for each in replies if each.has_content() and each.content.array_records]
        return sound[0].content["arrays"], None

    def configure_evaluate(self, server_round, arrays, config, grid):
        return []

    def aggregate_evaluate(self, server_round, replies):
        return None

    def summary(self):
        self.summed_up = True

    def start(self, grid, initial_arrays, num_rounds=3, *, train_config, note="no note"):
        self.note = note
        return super().start(grid, initial_arrays, num_rounds, train_config=train_config)


def private(**options):
    return DifferentialPrivacyServerSideFixedClipping(FedAvg(), 0.5, 0.05, 4, **options)


RULES = {
    "FedAvg": FedAvg,
    "half of the clients": lambda: FedAvg(fraction_train=0.5),
    "FedAvgM": lambda: FedAvgM(server_momentum=0.9, server_learning_rate=0.5),
    "FedAdam": FedAdam,
    "FedProx": lambda: FedProx(proximal_mu=0.1),
    "FedMedian": FedMedian,
    "Krum": lambda: Krum(num_malicious_nodes=1),
    # Which empties the records of the replies.
    "Bulyan": lambda: Bulyan(num_malicious_nodes=0),
    "a DP wrapper": private,
    "a strategy of one's own": OwnStart,
}


class TestTheRunStaysAsItIs:
    @pytest.mark.parametrize("make", RULES.values(), ids=RULES.keys())
    def test_same_bits_same_draws_same_metrics(self, tmp_path, make):
        plain, plain_grid = run(make())
        drawn = random.random(), np.random.rand()
        observed = observe(make(), tmp_path, local=ONE_STEP)
        seen, grid = run(observed)
        assert (random.random(), np.random.rand()) == drawn
        assert list(seen.arrays) == list(plain.arrays)
        for name, array in plain.arrays.items():
            assert seen.arrays[name].data == array.data
        for history in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
            assert getattr(seen, history) == getattr(plain, history)
        assert len(grid.replies) == len(plain_grid.replies) > 3
        assert len([name for name in files(tmp_path) if "reply" in name]) == len(grid.replies)

    def test_a_start_of_ones_own_keeps_its_arguments(self, tmp_path):
        strategy = OwnStart()
        observed = observe(strategy, tmp_path)
        observed.start(Wire(), initial_arrays(), 1, train_config=ConfigRecord(), note="mine")
        assert (strategy.note, strategy.summed_up) == ("mine", True)
        assert "configure_train" not in vars(strategy)
        assert "aggregate_train" not in vars(strategy)

    def test_a_lazy_strategy_stays_lazy(self, tmp_path):
        strategy = OwnStart()
        messages = observe(strategy, tmp_path).configure_train(
            1, initial_arrays(), ConfigRecord(), Wire()
        )
        next(iter(messages))
        assert len(strategy.drawn) == 1

    def test_what_is_read_and_set_is_the_strategys(self, tmp_path):
        strategy = FedAvgM(server_momentum=0.9)
        observed = observe(strategy, tmp_path)
        observed.server_momentum = 0.5
        assert strategy.server_momentum == observed.server_momentum == 0.5
        with pytest.raises(AttributeError, match=r"FedAvgM.*has no attribute 'nothing'"):
            _ = observed.nothing

    def test_the_strategy_raises_as_it_would(self, tmp_path):
        strategy = FedAvg(weighted_by_key="seconds")
        with pytest.raises(Exception, match="Missing required key `seconds`"):
            run(observe(strategy, tmp_path))
        assert "configure_train" not in vars(strategy)

    def test_it_can_stand_inside_of_another_strategy(self, tmp_path):
        inner = observe(FedAvg(), tmp_path, local=ONE_STEP)
        wrapped = DifferentialPrivacyServerSideFixedClipping(inner, 0.5, 0.05, 4)
        plain, _ = run(private())
        seen, _ = run(wrapped)
        assert all(seen.arrays[name].data == array.data for name, array in plain.arrays.items())
        assert len(files(tmp_path)) == 2 + 2 * 4


def change(capture):
    """Length of what a client did to the global weights."""
    parts = [
        (tensor - capture.global_state[name]).flatten()
        for name, tensor in capture.payload.tensors.items()
    ]
    return float(torch.cat(parts).norm())


class TestWhatIsKept:
    def test_captures_hold_sent_and_received_arrays(self, tmp_path):
        first = initial_arrays().to_torch_state_dict()
        observed = observe(FedAvg(), tmp_path / "made" / "here", local=ONE_STEP)
        _, grid = run(observed, rounds=1, named=True, images=3)
        assert observed.clients == {node: node - 1 for node in range(1, 5)}
        for node, record in grid.replies.values():
            capture = Capture.load(observed.folder, round=1, client=node - 1)
            for name, tensor in record.to_torch_state_dict().items():
                assert torch.equal(capture.payload.tensors[name], tensor)
                assert torch.equal(capture.global_state[name], first[name])
            assert list(capture.payload.tensors) == list(first)
            assert (capture.payload.num_examples, capture.payload.steps) == (3, 3)
            assert capture.facts.local_sgd == ONE_STEP

    def test_differences_are_kept_as_weights(self, tmp_path):
        same = {"rounds": 1, "named": True, "norm": True, "images": 3}
        weights = observe(FedAvg(), tmp_path / "weights", local=ONE_STEP)
        run(weights, arrays=initial_arrays(norm=True), **same)
        moved = observe(FedAvg(), tmp_path / "moved", local=ONE_STEP, kind="difference")
        run(moved, arrays=initial_arrays(norm=True), difference=True, **same)
        for client in range(4):
            one, other = (
                Capture.load(each.folder, round=1, client=client).payload
                for each in (weights, moved)
            )
            assert (other.kind, other.steps) == (one.kind, one.steps) == ("weights", 3)
            for name, tensor in one.tensors.items():
                assert torch.allclose(other.tensors[name], tensor, atol=1e-6), name

    def test_differences_of_something_else_are_not_kept(self, tmp_path, caplog):
        observed = observe(FedAvg(), tmp_path, kind="difference")
        observed._recorder._sent[5] = recording._Sent(initial_arrays())
        message = Message(RecordDict(), 5, MessageType.TRAIN)
        content = RecordDict({"arrays": ArrayRecord({"other": torch.ones(2)})})
        observed._recorder.received(1, Message(content, reply_to=message))
        assert files(tmp_path) == []
        assert "what was sent has no other of [2] to add a change to" in caplog.text

    def test_nameless_clients_are_numbered_in_order(self, tmp_path):
        observed = observe(FedAvg(fraction_train=0.5), tmp_path)
        _, grid = run(observed, rounds=4)
        nodes = [node for node, _ in grid.replies.values()]
        assert observed.clients == {n: i for i, n in enumerate(dict.fromkeys(nodes))}
        assert sorted(observed.clients) != list(observed.clients)

    def test_a_name_that_is_taken_is_given_to_nobody_else(self, tmp_path):
        observed = observe(FedAvg(), tmp_path)
        number = observed._recorder._number
        assert [number(50, 1), number(51, None), number(52, 1), number(53, 0.5)] == [1, 2, 3, 4]
        assert [number(50, None), number(52, 0), number(54, 0.0)] == [1, 3, 0]

    def test_rounds_and_clients_as_in_a_scenario(self, tmp_path):
        observed = observe(FedAvg(), tmp_path, rounds="every 2", clients="1-2")
        run(observed, rounds=4, named=True)
        assert files(tmp_path) == [
            f"{name}.safetensors"
            for name in (
                "global-0002",
                "global-0004",
                *(f"reply-000{round}-0000{client}" for round in (2, 4) for client in (1, 2)),
            )
        ]

    def test_the_learning_rate_may_follow_the_rounds(self, tmp_path):
        run(observe(FedAvg(), tmp_path, local=lambda round: LocalSGD(lr=0.1 / round, epochs=2)))
        capture = Capture.load(tmp_path, round=2, client=0)
        assert (capture.facts.lr, capture.payload.steps) == (0.05, 2)

    def test_updates_outside_a_dp_wrapper_are_unclipped(self, tmp_path):
        run(observe(private(), tmp_path / "outside"), rounds=1)
        inner = observe(FedAvg(), tmp_path / "inside")
        run(DifferentialPrivacyServerSideFixedClipping(inner, 0.5, 0.05, 4), rounds=1)
        for client in range(4):
            outside, inside = (
                change(Capture.load(tmp_path / place, round=1, client=client))
                for place in ("outside", "inside")
            )
            assert inside == pytest.approx(0.05, rel=1e-3)
            assert outside > 0.1

    def test_clients_that_were_sent_different_arrays(self, tmp_path):
        run(observe(OwnStart(), tmp_path), rounds=1, named=True)
        first = initial_arrays().to_torch_state_dict()
        for client in range(4):
            capture = Capture.load(tmp_path, round=1, client=client)
            for name, tensor in capture.global_state.items():
                assert torch.equal(tensor, first[name] + (client + 1))

    def test_a_record_that_is_emptied_after_it_was_sent(self, tmp_path):
        class Emptying(FedAvg):
            def configure_train(self, server_round, arrays, config, grid):
                yield from super().configure_train(server_round, arrays, config, grid)
                arrays.clear()

        run(observe(Emptying(), tmp_path), rounds=1, named=True)
        assert (
            Capture.load(tmp_path, round=1, client=3).global_state.keys()
            == Net().state_dict().keys()
        )


class TestNothingBreaksIt:
    def test_a_client_that_fails(self, tmp_path, caplog):
        with caplog.at_level(logging.WARNING, logger="fedlab"):
            run(observe(FedAvg(), tmp_path), rounds=1, named=True, failing=2)
        assert len(files(tmp_path)) == 1 + 3
        assert not Capture.kept(tmp_path, 1, 2)
        assert (
            "round 1: the reply of node 3 is not kept: it is an error: RuntimeError" in caplog.text
        )

    def test_a_client_that_sends_no_arrays(self, tmp_path, caplog):
        with caplog.at_level(logging.WARNING, logger="fedlab"):
            run(observe(OwnStart(), tmp_path), rounds=1, named=True, mute=1)
        assert not Capture.kept(tmp_path, 1, 1)
        assert 'no record of arrays called "arrays"' in caplog.text

    def test_keys_of_ones_own(self, tmp_path, caplog):
        observed = observe(FedAvg(), tmp_path, arrays_key="weights", examples_key="images")
        with caplog.at_level(logging.WARNING, logger="fedlab"):
            run(observed, rounds=1)
        # The only record of arrays is taken, but how many images there are nobody can guess.
        assert Capture.load(tmp_path, round=1, client=0).payload.num_examples == 1
        assert 'did not say how many images it has ("images"): 1 is put down' in caplog.text

    def test_a_disk_that_fails_is_named_once(self, tmp_path, caplog):
        observed = observe(FedAvg(), tmp_path / "captures")
        (tmp_path / "captures").write_text("in the way")
        plain, _ = run(FedAvg())
        with caplog.at_level(logging.WARNING, logger="fedlab"):
            seen, _ = run(observed)
        assert all(seen.arrays[name].data == array.data for name, array in plain.arrays.items())
        assert caplog.text.count("is not kept") == 1

    def test_second_run_does_not_spoil_the_first(self, tmp_path, caplog):
        observed = observe(FedAvg(), tmp_path)
        run(observed, rounds=1, named=True)
        kept = Capture.load(tmp_path, round=1, client=0).reply_digest
        with caplog.at_level(logging.WARNING, logger="fedlab"):
            run(observed, rounds=2, named=True, images=2)
        assert Capture.load(tmp_path, round=1, client=0).reply_digest == kept
        assert Capture.kept(tmp_path, 2, 0)
        assert "holds one of that round and client already" in caplog.text

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"rounds": "some"}, "cannot be read; write rounds as"),
            ({"clients": "20%"}, "share of all clients, whose number is not known"),
            ({"clients": "3-1"}, "runs backwards"),
            (
                {"kind": "differences"},
                'kind "differences" is none of gradient, weights, difference',
            ),
        ],
    )
    def test_wrong_arguments_are_refused_before_the_run(self, tmp_path, options, sentence):
        with pytest.raises(BadInput, match=sentence):
            observe(FedAvg(), tmp_path, **options)

    def test_a_folder_that_cannot_be_or_is_another_runs(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(BadInput, match="is a file"):
            observe(FedAvg(), tmp_path / "file")
        run(observe(FedAvg(), tmp_path / "captures"), rounds=1)
        with pytest.raises(BadInput, match="holds the Captures of another run"):
            observe(FedAvg(), tmp_path / "captures")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """One round of the app, each client with a single digit and a single step."""
    observed = observe(FedAvg(), tmp_path_factory.mktemp("captures"), local=ONE_STEP)
    run(observed, rounds=1, named=True)
    return observed


FAST = {"preset": "fast", "iterations": 150}


class TestReconstruction:
    def test_single_image_of_one_step_is_reconstructed(self, watched):
        images, labels = digits(2, 1)
        found = watched.reconstruct(round=1, client=2, **PUBLIC, **FAST)
        assert not found.labels_known
        (score,) = fedlab.score_images(found, images, labels=labels).images
        assert score.label_correct
        assert score.psnr > score.chance_psnr + 10
        assert score.psnr > 25

    def test_another_clients_image_it_is_not(self, watched):
        found = watched.reconstruct(round=1, client=2, **PUBLIC, **FAST)
        (score,) = fedlab.score_images(found, digits(3, 1)[0]).images
        assert score.psnr < 20
        assert score.label_correct is None

    def test_documented_command_reads_kept_files(self, watched, fedlab):
        code, out, err = fedlab(
            "reconstruct-files",
            "--global",
            watched.folder / "global-0001.safetensors",
            "--reply",
            watched.folder / "reply-0001-00002.safetensors",
            *("--model", "tests.integrations.plain_app:make", "--shape", "1x8x8", "--local-lr", LR),
            *("--classes", CLASSES, "--num-images", 1),
            *("--mean", MEAN[0], "--std", STD[0], "--preset", "fast", "--iterations", 20),
            *("--device", "cpu"),
        )
        assert (code, err) == (0, "")
        assert "1 images rebuilt" in out

    @pytest.mark.parametrize("numbered", [False, True], ids=["state_dict", "list of arrays"])
    def test_batchnorm_statistics_in_replies_are_accepted(self, tmp_path, numbered):
        observed = observe(FedAvg(), tmp_path, local=LocalSGD(lr=LR, batch_size=2))
        config = {"norm": True, "images": 2, "batch": 2, "named": True, "numbered": numbered}
        run(observed, rounds=1, arrays=initial_arrays(norm=True, numbered=numbered), **config)
        capture = Capture.load(tmp_path, round=1, client=0)
        assert len(capture.payload.tensors) == len(Net(norm=True).state_dict()) == 9
        images, labels = digits(0, 2)
        found = observed.reconstruct(
            round=1,
            client=0,
            labels=labels,
            **(PUBLIC | {"model": plain_app.make_with_norm}),
            **FAST,
        )
        scores = fedlab.score_images(found, images, labels=labels).images
        assert all(score.psnr > score.chance_psnr + 3 for score in scores)

    def test_missing_learning_rate_can_be_given_later(self, tmp_path):
        observed = observe(FedAvg(), tmp_path)
        run(observed, rounds=1, named=True)
        with pytest.raises(BadInput, match=r"pass local=LocalSGD\(lr=...\) here, or to observe"):
            observed.reconstruct(round=1, client=0, **PUBLIC)
        found = observed.reconstruct(round=1, client=0, local=ONE_STEP, **PUBLIC, **FAST)
        (score,) = fedlab.score_images(found, digits(0, 1)[0]).images
        assert score.psnr > 25

    def test_adam_is_named_before_the_attack_and_then_attacked(self, tmp_path, caplog):
        observed = observe(FedAvg(), tmp_path, local=ONE_STEP)
        run(observed, rounds=1, named=True, adam=True)
        seen = []
        with caplog.at_level(logging.WARNING, logger="fedlab"):
            taken_for_sgd = observed.reconstruct(
                round=1, client=2, watch=lambda _: seen.append(caplog.text), **PUBLIC, **FAST
            )
        assert "have nearly the same size" in seen[0]
        assert taken_for_sgd.findings[0].endswith(
            "an attack that takes them for SGD's finds little"
        )
        known = LocalSGD(lr=ADAM_LR, optimiser="adam")
        found = observed.reconstruct(round=1, client=2, local=known, **PUBLIC, **FAST)
        assert found.findings == ()
        true, _ = digits(2, 1)
        better, worse = (
            fedlab.score_images(each, true).images[0].psnr for each in (found, taken_for_sgd)
        )
        assert better > worse + 3

    def test_wrong_mode_of_batchnorm_is_named(self, tmp_path):
        observed = observe(FedAvg(), tmp_path, local=LocalSGD(lr=LR, batch_size=2))
        config = {"norm": True, "images": 2, "batch": 2, "named": True}
        run(observed, rounds=1, arrays=initial_arrays(norm=True), **config)
        facts = PUBLIC | {"model": plain_app.make_with_norm}
        found = observed.reconstruct(round=1, client=0, mode="eval", iterations=1, **facts)
        assert "BatchNorm counters in the reply moved by 1" in found.findings[0]

    def test_normalisation_is_read_from_the_network(self, tmp_path):
        class Normalising(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.normalise = torchvision.transforms.Normalize(MEAN, STD)
                self.net = Net()

            def forward(self, images):
                return self.net(self.normalise(images))

        observed = observe(FedAvg(), tmp_path, local=ONE_STEP)
        run(observed, rounds=1, named=True)
        capture = Capture.load(tmp_path, round=1, client=2)
        for path in tmp_path.iterdir():
            path.unlink()
        rename = "net.{}".format
        Capture(
            1,
            (2,),
            {rename(name): value for name, value in capture.global_state.items()},
            replace(
                capture.payload,
                tensors={rename(name): value for name, value in capture.payload.tensors.items()},
            ),
            capture.facts,
        ).save(tmp_path)
        found = observed.reconstruct(
            round=1, client=2, model=Normalising(), shape=SHAPE, classes=CLASSES, **FAST
        )
        (score,) = fedlab.score_images(found, digits(2, 1)[0]).images
        assert score.psnr > 25

    def test_given_network_is_not_changed(self, watched):
        model = Net(norm=False).eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        watched.reconstruct(round=1, client=0, **(PUBLIC | {"model": model}), iterations=2)
        assert all(torch.equal(before[name], v) for name, v in model.state_dict().items())
        assert not model.training

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"num_images": 65}, "client 0 in round 1 averages 65 images; more than 64 are not"),
            ({"round": 9}, "no reply of client 0 was kept in round 9"),
            ({"model": Net(norm=True)}, "what the server sent in round 1 lacks norm.weight"),
            ({"model": lambda shape, classes: None}, "must make a torch.nn.Module"),
            ({"model": "nonsense"}, 'there is no model "nonsense"'),
            ({"classes": 7}, r"model: for 2 images of 1x8x8 it must give \[2, 7\], but gives"),
            ({"shape": (3, 8, 8), "mean": (0.5,)}, "model: it does not take images of 3x8x8"),
            ({"labels": [1, 2], "num_images": 1}, "2 labels were given for 1 images"),
            ({"preset": "quick"}, "preset"),
            ({"mean": (0.1, 0.2)}, "mean and std need 1 or 1 values"),
            ({"mean": None, "std": None}, "give mean and std"),
            ({"std": None}, "give mean and std"),
            ({"device": "tpu"}, "device"),
        ],
    )
    def test_what_does_not_fit_is_one_sentence(self, watched, changes, sentence):
        with pytest.raises(BadInput, match=sentence):
            watched.reconstruct(**{"round": 1, "client": 0, **PUBLIC, **changes})


ON_RAY = """
import sys
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
import fedlab
from tests.integrations import plain_app

observed = fedlab.observe(FedAvg(), sys.argv[1], local=fedlab.LocalSGD(lr=plain_app.LR))
run_simulation(
    server_app=plain_app.server_app(observed, 2, named=True),
    client_app=plain_app.app,
    num_supernodes=2,
    backend_config={"client_resources": {"num_cpus": 1}},
)
"""


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(300)
def test_on_ray_as_flower_runs_it(tmp_path):
    # In a process of its own: Ray leaves threads behind, and warns.
    script = [sys.executable, "-c", ON_RAY, str(tmp_path / "captures")]
    path = {"PYTHONPATH": str(ROOT), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    done = subprocess.run(
        script, cwd=ROOT, env=os.environ | path, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for client in range(2):
        found = reconstruct_capture(tmp_path / "captures", round=1, client=client, **PUBLIC, **FAST)
        (score,) = fedlab.score_images(found, digits(client, 1)[0]).images
        assert score.psnr > 25
