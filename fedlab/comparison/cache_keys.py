"""What a finished run is kept under: whatever its result depends on, and nothing else."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fedlab.client.federated_data import network_of, whole_images
from fedlab.core.devices import device_of
from fedlab.core.digest import digest
from fedlab.core.environment import environment
from fedlab.core.plugins import Registry, fingerprint
from fedlab.data.images import ImageData
from fedlab.data.registry import PARTITIONS
from fedlab.models.registry import MODELS
from fedlab.scenario.rules import RULES
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Data

PACKAGES = ("fedlab", "attacks")
"""Whose source counts as part of their version, so that results of two codes never mix."""
LOOKS_ONLY = ("fedlab/report", "fedlab/integrations/exports", "fedlab/cli")
"""What no result depends on."""


def keys_of(scenarios: Iterable[Scenario]) -> list[str]:
    """A hash of scenario, images, versions and device for each of some scenarios.

    Images count by their content and not by where they are. Plug-ins that are not fedlab's own
    count by the source of their module and the version of their package, a network by its layers
    as well.

    Raises:
        BadInput: If images, network or device cannot be had.
    """
    known: dict[Data, tuple[ImageData, str]] = {}  # each once, since it may hold gigabytes
    found = []
    for scenario in scenarios:
        source = scenario.data.model_copy(update={"train": None, "test": None})
        if source not in known:
            images = whole_images(source)
            known[source] = images, _content(images)
        images, content = known[source]
        found.append(_key(scenario, content, _plugins(scenario, images)))
    return found


def _key(scenario: Scenario, images: str, plugins: dict[str, str]) -> str:
    device = device_of(scenario.engine.device)
    where = {"source", "root", "download", "factory"}
    facts = {
        "scenario": scenario.model_dump(
            mode="json", exclude={"name": True, "data": where, "engine": {"device"}}
        ),
        "images": images,
        "plugins": plugins,
        "versions": environment()["packages"],
        "code": _code(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _content(images: ImageData) -> str:
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
            name = path.relative_to(root).as_posix()
            if not name.startswith(LOOKS_ONLY):
                total.update(name.encode() + path.read_bytes())
    return total.hexdigest()


def _plugins(scenario: Scenario, images: ImageData) -> dict[str, str]:
    """Source and version of the plug-ins that are not fedlab's own, and the layers of a network."""
    model = scenario.model.factory or scenario.model.name
    named: list[tuple[Registry[Any], str]] = [
        (MODELS, model),
        (PARTITIONS, scenario.data.partition),
        (RULES, scenario.server.strategy),
    ]
    found = {
        f"{registry.kind} {name}": fingerprint(registry.get(name))
        for registry, name in named
        if name in registry and not registry.is_builtin(name)
    }
    if f"{MODELS.kind} {model}" in found:
        made = network_of(scenario, images)
        shapes = {name: list(value.shape) for name, value in made.state_dict().items()}
        found["layers"] = f"{made} {shapes}"
    return found
