"""Cache keys change with everything that a result depends on, and with nothing else."""

from functools import partial

import numpy as np
import pytest

from fedlab import BadInput
from fedlab.comparison import cache_keys as keys
from fedlab.comparison.cache_keys import keys_of
from fedlab.comparison.shared_images import SharedImages
from tests.federations import FORGETFUL, forgetful, small

MODEL = """
from torch import nn

def make(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
"""


def key(*overrides, **tables):
    (found,) = keys_of([small(*overrides, **tables)], SharedImages())
    return found


def saved(path, *, seed=0):
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (24, 8, 8), dtype=np.uint8)
    labels = np.arange(24) % 2
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return {"source": f"npz:{path}", "clients": 2}


def test_same_scenario_has_the_same_key():
    assert key() == key() == key("name=another")


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "rounds=5",
        "training.lr=0.06",
        "data.train=150",
        "model.width=5",
        "engine.threads=2",
    ],
)
def test_settings_tell_runs_apart(override):
    assert key() != key(override)


def test_images_count_by_content_not_by_path(tmp_path):
    one, same = saved(tmp_path / "one.npz"), saved(tmp_path / "same.npz")
    other = saved(tmp_path / "other.npz", seed=1)
    assert key(data=one) == key(data=same) != key(data=other)
    before = key(data=one)
    saved(tmp_path / "one.npz", seed=1)
    assert key(data=one) != before


def test_source_of_a_foreign_network_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_network.py").write_text(MODEL)
    own = {"name": "factory", "factory": "own_network:make"}
    before = key(model=own)
    assert key(model=own) == before
    (tmp_path / "own_network.py").write_text(MODEL + "\n# changed\n")
    assert key(model=own) != before


def test_layers_of_a_foreign_network_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "borrowed_layers.py").write_text("WIDTH = 3")
    borrowed = MODEL.replace("nn.Flatten()", "nn.Flatten(), nn.Dropout(borrowed_layers.WIDTH / 10)")
    (tmp_path / "borrowing_network.py").write_text("import borrowed_layers\n" + borrowed)
    own = {"name": "factory", "factory": "borrowing_network:make"}
    before = key(model=own)
    monkeypatch.setattr("borrowed_layers.WIDTH", 4)
    assert key(model=own) != before


def test_network_without_source_is_refused(monkeypatch):
    made = partial(forgetful)
    monkeypatch.setattr("fedlab.simulation.foreign_plugins.load", lambda *_, **__: made)
    with pytest.raises(BadInput, match="no source"):
        key(model=FORGETFUL)


DEFENSE = """
from fedlab.defenses import Defense

class Halve(Defense):
    factor: float = 0.5

    def wrap(self, pipeline, context):
        return pipeline.releasing(lambda update: {n: self.factor * t for n, t in update.items()})
"""


def test_source_of_a_foreign_defense_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "halving_defense.py").write_text(DEFENSE)
    own = [{"name": "halving_defense:Halve"}]
    before = key(defenses=own)
    assert key(defenses=own) == before != key()
    (tmp_path / "halving_defense.py").write_text(DEFENSE + "# changed\n")
    assert key(defenses=own) != before


def test_defense_of_a_notebook_is_refused(monkeypatch):
    monkeypatch.setattr("fedlab.core.plugins.inspect.getsourcefile", lambda _: None)
    with pytest.raises(BadInput, match="define it in a module"):
        key(defenses=["tests.comparison.test_parsing:Mine"])


def test_trackers_do_not_count():
    assert key(trackers=["tensorboard"]) == key()


@pytest.mark.parametrize("part", ["environment", "_code"])
def test_versions_and_code_count(monkeypatch, part):
    before = key()
    changed = {"environment": lambda: {"packages": {"torch": "0"}}, "_code": lambda: "another"}
    monkeypatch.setattr(keys, part, changed[part])
    assert key() != before
