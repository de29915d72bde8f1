"""What a finished run is kept under: whatever its result depends on, and nothing else."""

import hashlib
import inspect
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

from fedlab.client.site import whole_images
from fedlab.devices import device_of
from fedlab.digest import digest
from fedlab.environment import environment
from fedlab.factories import resolve
from fedlab.scenario import Scenario
from fedlab.scenario_tables import Data

PACKAGES = ("fedlab", "attacks")
"""Whose source counts as part of their version, so that results of two codes never mix."""


def keys_of(scenarios: Iterable[Scenario]) -> list[str]:
    """A hash of scenario, images, versions and device for each of some scenarios.

    Images count by their content and not by where they are, a network of the user's own by the
    source of its module.

    Raises:
        BadInput: If images, network or device cannot be had.
    """
    images: dict[Data, str] = {}  # of each source once, since it may hold gigabytes
    found = []
    for scenario in scenarios:
        source = scenario.data.model_copy(update={"train": None, "test": None})
        if source not in images:
            images[source] = _content(source)
        found.append(_key(scenario, images[source]))
    return found


def _key(scenario: Scenario, images: str) -> str:
    device = device_of(scenario.engine.device)
    where = {"source", "root", "download", "factory"}
    facts = {
        "scenario": scenario.model_dump(
            mode="json", exclude={"name": True, "data": where, "engine": {"device"}}
        ),
        "images": images,
        "model": _source(scenario.model.factory),
        "versions": environment()["packages"],
        "code": _code(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _content(source: Data) -> str:
    images = whole_images(source)
    return digest(
        {
            "train": images.train_images,
            "train labels": images.train_labels,
            "test": images.test_images,
            "test labels": images.test_labels,
            "normalisation": torch.tensor([images.mean, images.std]),
        }
    )


@cache
def _code() -> str:
    total = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            total.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return total.hexdigest()


def _source(factory: str | None) -> str:
    """Of the module that makes the network; empty where it has no file, as in a notebook."""
    if factory is None:
        return ""
    file = inspect.getsourcefile(resolve(factory))
    if file is None or not Path(file).is_file():
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
