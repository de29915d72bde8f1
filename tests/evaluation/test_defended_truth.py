"""Under every batch-level defense the truth is what the network saw, beside the images before."""

from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

from attacks.reconstruction import AttackSettings, Reconstruction
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.data.shard import Shard
from fedlab.evaluation.referee import Referee
from fedlab.evaluation.replay import replay
from fedlab.protocol.planning import task_for
from fedlab.protocol.round_facts import scheduled_facts
from fedlab.results.attacks import scored_images
from fedlab.server.captures import Capture
from tests.federations import small

CHANGING = {
    "flip-crop": {"padding": 1},
    "cutout": {},
    "maxup": {},
    "adversarial-poisoning": {"steps": 1},
}
MIXING = {
    "mixup": {"k": 3},
    "cutmix": {"probability": 1.0},
    "dp-instahide": {"k": 3},
    "dp-instahide frozen": {"k": 3, "frozen": 25},
    "dp-instahide dirichlet": {"k": 3, "weights": "dirichlet", "cap": 0.65},
}
LEAK = [{"role": "leaking", "clients": "0", "batch_size": 4}]


def observed(defense, *, leaking, epochs=1, **tables):
    """The Capture of client 0 in round 2 under a defense, and its truth."""
    settings = (CHANGING | MIXING).get(defense)
    defenses = [] if settings is None else [{"name": defense.split()[0], **settings}]
    scenario = small(
        defenses=defenses,
        roles=LEAK if leaking else [],
        training={"batch_size": 16, "lr": 0.05, "epochs": epochs},
        **tables,
    )
    federated = FederatedData.of(scenario)
    task = task_for(scenario, round=2, client=0)
    state = {name: value.clone() for name, value in federated.model.state_dict().items()}
    payload = run_client_round(task, federated, state, ()).sent
    capture = Capture(2, (0,), state, payload, scheduled_facts(task, scenario))
    return federated, capture, {0: task}, replay(federated, capture, {0: task}, {})


@pytest.mark.parametrize("leaking", [False, True])
@pytest.mark.parametrize("defense", [*CHANGING, *MIXING, "none"])
def test_what_the_client_did_is_rehearsed(defense, leaking):
    federated, capture, _, truth = observed(defense, leaking=leaking)
    assert truth.payload_cosine > 0.999999
    expected = 4 if leaking else 25 if "frozen" in defense else 40
    assert len(truth.inputs) == capture.payload.num_examples == expected
    assert truth.mixed == (defense in MIXING)
    assert truth.changed == (defense in CHANGING)
    images = federated.data.pixels(truth.shard.images[truth.sources])
    if defense in CHANGING:
        assert torch.equal(truth.labels, truth.shard.labels[truth.sources[:, 0]])
        assert not torch.equal(truth.inputs, images[:, 0])
    if defense == "none":
        assert torch.equal(truth.inputs, images[:, 0])


@pytest.mark.parametrize("defense", [*CHANGING, *MIXING, "none"])
def test_changing_inputs_have_no_order(defense):
    federated, capture, _, truth = observed(defense, leaking=False, epochs=2)
    repeats = defense in ("none", "dp-instahide frozen")
    assert (truth.order is not None) == repeats
    *_, once = observed(defense, leaking=False)
    assert once.order is not None
    data = federated.data
    known = capture.facts.knowledge(
        shape=data.shape,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        kind="weights",
        num_images=len(truth.inputs),
    )
    assert len(known.blocks) == capture.payload.steps  # views of an image are no further images


def scored(federated, capture, tasks, truth, images, **more):
    """Rows of the referee about an attack that returned these images."""
    found = Reconstruction(
        images=images,
        labels=truth.labels,
        labels_known=True,
        cost=0.0,
        costs=torch.zeros(1),
        restart=0,
        seconds=0.0,
        attack=AttackSettings(),
        **more,
    )
    return Referee(federated).score(capture, tasks, truth, found, preset="given").rows


@pytest.mark.parametrize("defense", [*CHANGING, *MIXING, "none"])
def test_perfect_reconstruction_scores_perfect(defense):
    federated, capture, tasks, truth = observed(defense, leaking=True)
    rows = scored(federated, capture, tasks, truth, truth.inputs)
    seen = (
        {"none": "original"} | dict.fromkeys(CHANGING, "changed") | dict.fromkeys(MIXING, "mixed")
    )
    by_target = {row.target for row in rows}
    assert by_target == {"original", seen[defense]}
    assert all(row.psnr > 60 for row in rows if row.target == seen[defense])
    original = [row.psnr for row in rows if row.target == "original"]
    assert len(original) == 4
    if defense != "none":
        assert min(original) < 40
    if defense not in MIXING:
        assert {row.verdict for row in rows} == {"leaks"}


def test_a_mirrored_batch_leaks():
    """A plain error would pair the images of the batch with the wrong true ones."""
    federated, capture, tasks, truth = observed("none", leaking=True)
    rows = scored(federated, capture, tasks, truth, truth.inputs.flip(3))
    assert [row.verdict for row in rows] == ["leaks"] * 4


def test_guessed_labels_are_marked_and_counted():
    federated, capture, tasks, truth = observed("none", leaking=True)
    rows = scored(federated, capture, tasks, truth, truth.inputs, labels_guessed=True)
    table = scored_images(pd.DataFrame([asdict(row) for row in rows]))
    assert table["labels_guessed"].sum() == 4
    older = table.drop(columns="labels_guessed")
    assert scored_images(older)["labels_guessed"].sum() == 0


def test_a_large_shard_hides_no_leak():
    """Chance and pool come from public images, so the client's other images do not matter."""
    one_client = {"train": 400, "test": 360, "clients": 1}
    federated, capture, tasks, truth = observed("none", leaking=True, data=one_client)
    own = truth.sources[:, 0]
    alone = replace(
        truth,
        shard=Shard(truth.shard.images[own], truth.shard.labels[own], 10),
        sources=torch.arange(4).unsqueeze(1),
    )
    noise = torch.randn(truth.inputs.shape, generator=torch.Generator().manual_seed(0))
    guess = truth.inputs + 0.11 * noise
    few, many = (scored(federated, capture, tasks, each, guess) for each in (alone, truth))
    assert few == many
    assert {row.pool for row in many} == {100}
    assert [row.verdict for row in many].count("leaks") > 0
