"""A run folder knows its scenario, images, partition, network and code, and refuses others."""

import shutil
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fedlab import BadInput, Federation, Scenario
from fedlab.results.folder import RunFolder

PLUGIN = """
import torch
from fedlab.defenses import Defense

print("imported")


class Mine(Defense):
    keeps_guarantees = True
    strength: float = 1.0

    def wrap(self, pipeline, context):
        return pipeline.releasing_each(lambda tensor: self.strength * tensor)


def network(shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))
"""


def write_images(file, seed):
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))[:80]
    images, labels = (digits.images[order] * 15).astype(np.uint8), digits.target[order]
    labels[:10] = labels[-10:] = range(10)
    parts = {"train": slice(0, 60), "test": slice(60, 80)}
    arrays = {f"{name}_images": images[part] for name, part in parts.items()}
    np.savez(file, **arrays, **{f"{n}_labels": labels[part] for n, part in parts.items()})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with images, a module that holds a defense and a network, and a run of them."""
    place = tmp_path_factory.mktemp("made")
    write_images(place / "images.npz", 1)
    (place / "ownplug.py").write_text(PLUGIN)
    scenario = {
        "rounds": 2,
        "data": {"source": f"npz:{place / 'images.npz'}", "clients": 3},
        "model": {"name": "factory", "factory": "ownplug:network"},
        "captures": {"keep": "all"},
        "engine": {"device": "cpu"},
        "defenses": [{"name": "ownplug:Mine", "strength": 0.9, "clients": "1"}],
        "roles": [{"role": "leaking", "clients": "0"}],
    }
    sys.path.insert(0, str(place))
    Federation(Scenario(**scenario), out=place / "run").step()
    yield place
    sys.path.remove(str(place))


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made / "run", tmp_path / "run")


def test_unchanged_run_is_scored_and_resumed(run):
    federation = Federation.resume(run)
    leak = federation.reconstruct(round=1, client=0, preset="analytic", power=False)
    assert leak.rows[0].verdict == "leaks"
    federation.run()


def test_other_images_are_refused(made, run):
    file = made / "images.npz"
    before = file.read_bytes()
    write_images(file, 2)
    try:
        with pytest.raises(BadInput, match=r"the images of .* changed since the run was started"):
            Federation.resume(run)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("seed = 0", "seed = 1", "seed in"),
        ('partition = "iid"', 'partition = "dirichlet"', "data in"),
        ("clients = 3", "clients = 4", "data in"),
        ("lr = 0.1", "lr = 0.2", "training in"),
        ("delta = 1e-05", "delta = 0.1", "privacy in"),
        ("strength = 0.9", "strength = 0.5", "defenses in"),
        ('clients = "0"', 'clients = "2"', "roles in"),
    ],
)
def test_edited_scenario_is_refused(run, old, new, named):
    file = run / "scenario.toml"
    text = file.read_text()
    assert old in text
    text = text.replace(old, new)
    file.write_text(
        text.replace("batch_size = 1\nsampling", "sampling") if "honest" in new else text
    )
    for opened in (Federation.resume, lambda folder: RunFolder.open(folder).ledger()):
        with pytest.raises(BadInput, match=f"{named} .*put it back"):
            opened(run)


def test_more_rounds_and_other_captures_are_taken(run):
    file = run / "scenario.toml"
    text = file.read_text().replace("rounds = 2", "rounds = 3")
    file.write_text(text.replace('keep = "all"', 'keep = "none"'))
    assert Federation.resume(run).scenario.rounds == 3


def test_toggle_is_part_of_the_run(run):
    federation = Federation.resume(run)
    federation.toggle("pruning", on=True)
    assert [each.name for each in Federation.resume(run).scenario.defenses][-1] == "pruning"


def test_other_code_is_refused(made, run):
    file = made / "ownplug.py"
    file.write_text(PLUGIN.replace("self.strength * tensor", "tensor"))
    try:
        with pytest.raises(BadInput, match=r"the code of ownplug:Mine .* changed"):
            Federation.resume(run)
    finally:
        file.write_text(PLUGIN)


def test_record_that_is_lost_is_noticed(run):
    (run / "identity.json").unlink()
    with pytest.raises(BadInput, match=r"identity\.json is missing"):
        Federation.resume(run)
