"""Tests of every data poison in a small federation."""

from types import SimpleNamespace

import pytest
import torch

from fedlab import BadInput, Federation
from fedlab.client.federated_data import FederatedData
from fedlab.client.poison import poison_shard
from fedlab.core.seeds import generator
from fedlab.poisoning import CraftedPoison
from fedlab.poisoning.availability import Availability
from fedlab.poisoning.cache import PoisonCache
from fedlab.poisoning.gradient_matching import GradientMatching
from fedlab.poisoning.hidden_trigger import HiddenTrigger
from fedlab.poisoning.metapoison import MetaPoison
from fedlab.protocol.planning import task_for
from fedlab.results.folder import RunFolder
from tests.federations import FORGETFUL, finished, small

QUICK = {"steps": 3, "epochs": 1, "share": 0.1}
RELABELLING = [
    {"attack": "badnets", "size": 2},
    {"attack": "blended"},
    {"attack": "sinusoidal", "relabel": True, "frequency": 2},
]
CRAFTED = [
    {"attack": "gradient-matching", "restarts": 1, **QUICK},
    {"attack": "metapoison", "ensemble": 2, **QUICK},
    {"attack": "availability", **QUICK},
    {"attack": "availability", "method": "adversarial", **QUICK},
    {"attack": "hidden-trigger", "size": 2, "retrains": 1, **QUICK},
]


def names(settings):
    return " ".join(str(settings[key]) for key in ("attack", "method") if key in settings)


def scenario(data, **tables):
    return small(roles=[{"role": "poisoning", "clients": "0", "data": data}], **tables)


def poisoned(data, *, round=1, client=0, federated=None):
    chosen = scenario(data)
    federated = federated or FederatedData.of(chosen)
    task = task_for(chosen, round=round, client=client)
    clean, state = federated.shard(client), federated.state
    return clean, poison_shard(clean, task, federated, state)


def goal(data):
    chosen = scenario(data)
    federated = FederatedData.of(chosen)
    settings = chosen.role(round=1, client=0).data
    found = settings.find_goal(federated.test, lambda what: generator(federated.seed, what))
    return federated.test, found


@pytest.mark.parametrize("data", RELABELLING, ids=names)
def test_trigger_on_a_share_and_on_other_classes(data):
    clean, dirty = poisoned(data | {"share": 0.5, "target": 3})
    touched = (clean.images != dirty.images).flatten(1).any(1)
    assert int(touched.sum()) == 20
    assert (dirty.labels[touched] == 3).all()
    assert torch.equal(dirty.labels[~touched], clean.labels[~touched])
    test, wants = goal(data | {"target": 3})
    others = test.images[test.labels != 3]
    assert (wants.wanted == 3).all()
    assert wants.images.shape == others.shape
    assert (wants.images != others).flatten(1).any(1).all()
    assert wants.chance == {(label, 3) for label in range(10) if label != 3}


def test_sinusoid_keeps_every_label():
    clean, dirty = poisoned({"attack": "sinusoidal", "share": 1.0, "target": 3, "frequency": 2})
    touched = (clean.images != dirty.images).flatten(1).any(1)
    assert touched.any()
    assert torch.equal(touched, clean.labels == 3)
    assert torch.equal(clean.labels, dirty.labels)


def test_blended_pattern_is_shared_with_the_test():
    data = {"attack": "blended", "alpha": 1.0, "share": 1.0}
    _, dirty = poisoned(data)
    _, wants = goal(data)
    assert torch.equal(dirty.images[0], wants.images[0])


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"source": 3, "target": 5},
        {"pairs": [[1, 7], [7, 1]]},
        {"pairs": [[1, 7], [2, 7], [7, 4]]},
        {"random": True},
    ],
)
def test_label_flips_and_their_goals(labels):
    clean, dirty = poisoned({"attack": "label-flip", **labels})
    assert torch.equal(clean.images, dirty.images)
    changed = clean.labels != dirty.labels
    assert changed.any()
    test, wants = goal({"attack": "label-flip", **labels})
    if "random" in labels:
        assert changed.all()
        assert wants is None
    elif "source" in labels:
        assert set(clean.labels[changed].tolist()) == {3}
        assert torch.equal(wants.images, test.images[test.labels == 3])
        assert (wants.wanted == 5).all()
        assert wants.chance == {(label, 5) for label in range(10) if label not in (3, 5)}
    elif "pairs" in labels:
        for source, target in labels["pairs"]:
            assert (dirty.labels[clean.labels == source] == target).all()
        flips = {tuple(pair) for pair in labels["pairs"]}
        every = {(label, wanted) for label in range(10) for _, wanted in flips if label != wanted}
        assert wants.chance == every - flips
    else:
        assert torch.equal(dirty.labels, 9 - clean.labels)
        assert len(wants.chance) == 80


@pytest.mark.parametrize("data", CRAFTED, ids=names)
@pytest.mark.parametrize("against", ["global", "own"])
def test_crafted_poisons_respect_epsilon_and_labels(data, against):
    data = data | {"epsilon": 8 / 255, "against": against, "target": 3}
    data = {key: value for key, value in data.items() if allowed(data, key)}
    clean, dirty = poisoned(data)
    away = (clean.images.int() - dirty.images.int()).abs()
    assert 0 < int(away.max()) <= 8
    assert int(away.flatten(1).any(1).sum()) <= 4
    assert torch.equal(clean.labels, dirty.labels)
    _, again = poisoned(data)
    assert torch.equal(again.images, dirty.images)
    _, random = poisoned(data | {"control": True})
    moved = (clean.images.int() - random.images.int()).abs()
    assert 0 < int(moved.max()) <= 8
    assert not torch.equal(random.images, dirty.images)


def allowed(data, key):
    return key != "target" or data["attack"] != "availability"


@pytest.mark.parametrize("data", CRAFTED, ids=names)
@pytest.mark.parametrize("against", ["global", "own"])
def test_control_changes_the_same_images(data, against):
    data = data | {"against": against, "share": 0.03}
    clean, dirty = poisoned(data)
    _, random = poisoned(data | {"control": True})
    changed, moved = ((clean.images != s.images).flatten(1).any(1) for s in (dirty, random))
    assert changed.sum() == 1
    assert torch.equal(changed, moved)


def test_targeted_poison_classes():
    data = {"attack": "gradient-matching", "restarts": 1, "target": 3, **QUICK}
    clean, dirty = poisoned(data)
    touched = (clean.images != dirty.images).flatten(1).any(1)
    assert set(clean.labels[touched].tolist()) == {3}
    test, wants = goal(data)
    place = int((test.images == wants.images).flatten(1).all(1).nonzero()[0])
    assert test.labels[place] != 3
    assert wants.wanted.tolist() == [3]
    _, other = goal(data | {"image": place + 1 if test.labels[place + 1] != 3 else place + 2})
    assert not torch.equal(other.images, wants.images)
    assert wants.chance == {(label, 3) for label in range(10) if label != 3}


def test_poison_is_crafted_each_round_or_once():
    role = {"attack": "gradient-matching", "restarts": 1, **QUICK}
    anew, once = scenario(role), scenario(role | {"when": "once"})
    for chosen, kept in ((anew, False), (once, True)):
        federated, shards = FederatedData.of(chosen), []
        for round in (1, 2):
            state = {n: t + round * 0.01 for n, t in federated.state.items()}
            federated.load(state)
            task = task_for(chosen, round=round, client=0)
            shards.append(poison_shard(federated.shard(0), task, federated, state).images)
        assert torch.equal(*shards) is kept


def test_poison_made_once_survives_a_resume(tmp_path):
    data = {"attack": "gradient-matching", "restarts": 1, "when": "once", **QUICK}
    whole = finished(scenario(data), out=tmp_path / "whole")
    half = Federation(scenario(data), out=tmp_path / "half")
    half.step()
    half.step()
    assert len(list(RunFolder(tmp_path / "half").poisons.iterdir())) == 1
    resumed = Federation.resume(tmp_path / "half")
    resumed.run()
    for name, value in whole.state.items():
        assert torch.equal(value, resumed.state[name]), name


def test_crafting_leaves_the_network_unchanged():
    chosen = scenario({"attack": "metapoison", "ensemble": 1, "against": "global", **QUICK})
    federated = FederatedData.of(chosen)
    before, modes = federated.state, [module.training for module in federated.model.modules()]
    poison_shard(
        federated.shard(0), task_for(chosen, round=1, client=0), federated, federated.state
    )
    assert [module.training for module in federated.model.modules()] == modes
    for name, value in federated.state.items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"attack": "badnets", "size": 9}, "badnets: .*does not fit"),
        ({"attack": "badnets", "target": 10}, "there is no class 10"),
        ({"attack": "distributed"}, "distributed: .*pixels"),
        ({"attack": "label-flip", "pairs": [[1, 12]]}, "there is no class 12"),
        (
            {"attack": "gradient-matching", "image": 80},
            "image is 80, but there are only 80",
        ),
        ({"attack": "hidden-trigger", "source": 11}, "there is no class 11"),
    ],
)
def test_unfit_poison_is_refused_before_the_run(data, words):
    with pytest.raises(BadInput, match=words):
        Federation(scenario(data))


@pytest.mark.parametrize(
    "tables",
    [{"training": {"batch_size": 16, "lr": 0.1, "lr_decay": 0.3}}, {"model": FORGETFUL}],
    ids=["falling rate", "dropout"],
)
def test_own_networks_are_the_same_after_a_resume(tables, tmp_path):
    data = {"attack": "gradient-matching", "restarts": 1, "against": "own", **QUICK}
    chosen = scenario(data, **tables).changed(rounds=2)
    whole = finished(chosen)
    broken = Federation(chosen, out=tmp_path / "broken")
    broken.step()
    torch.rand(7)  # whatever another process draws
    resumed = Federation.resume(tmp_path / "broken")
    resumed.run()
    assert all(torch.equal(value, resumed.state[name]) for name, value in whole.state.items())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"attack": "gradient-matching", "epsilon": 0.0039}, "less than one level of a pixel"),
        ({"attack": "hidden-trigger", "source": 3, "target": 3}, "source and target are both 3"),
        ({"attack": "label-flip", "pairs": [[1, 2], [4, 4]]}, "pairs relabels class 4 as itself"),
    ],
)
def test_poison_without_effect_is_refused(data, problem):
    with pytest.raises(BadInput, match=problem):
        scenario(data)
    scenario({"attack": "gradient-matching", "epsilon": 1 / 255})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"attack": "badnets", "size": 2}, "no test image is of a class that would show"),
        ({"attack": "gradient-matching"}, "all test images are of class"),
    ],
)
def test_goal_without_test_image_is_refused(data, problem):
    one = {"train": 160, "test": 1, "clients": 4}
    label = int(FederatedData.of(small(data=one)).data.test_labels[0])
    with pytest.raises(BadInput, match=problem):
        Federation(scenario(data | {"target": label}).changed(data=one))
    Federation(scenario(data | {"target": (label + 1) % 10}).changed(data=one))


def test_smallest_availability_share_is_one_image():
    clean, dirty = poisoned(CRAFTED[2] | {"share": 0.001})
    assert int((clean.images != dirty.images).flatten(1).any(1).sum()) == 1


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (GradientMatching(epsilon=0.00401, image=3, when="once"), "d64baa03f086231e"),
        (MetaPoison(colour=1e-5, against="own", when="once"), "9303c193edbd3f44"),
        (Availability(), "10ea9fc539efe4cf"),
        (HiddenTrigger(size=3, when="once"), "2b6925f39169ec66"),
    ],
    ids=lambda value: value.key if isinstance(value, CraftedPoison) else "",
)
def test_stored_poisons_of_older_runs_are_found(data, key):
    """The names of files in older run folders."""
    context = SimpleNamespace(client=3, cache=PoisonCache())
    assert data._cache_key(context) == f"client-3-{key}"
