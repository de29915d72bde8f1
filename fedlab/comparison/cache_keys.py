"""Cache keys of finished runs: a hash of everything that the result of a run depends on."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

from fedlab.client.federated_data import network_of
from fedlab.comparison.shared_images import SharedImages
from fedlab.core.devices import device_of
from fedlab.core.environment import environment
from fedlab.data.image_file import read_images
from fedlab.data.images import ImageData
from fedlab.models.registry import MODELS
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.foreign_plugins import foreign_plugins
from fedlab.simulation.run_identity import image_digest

PACKAGES = ("fedlab", "attacks")
"""Packages whose source code is part of a key, so that results of two versions never mix."""
LOOKS_ONLY = ("fedlab/report", "fedlab/integrations/exports", "fedlab/cli")
"""Parts of the packages that no result depends on."""


def keys_of(scenarios: Iterable[Scenario], images: SharedImages) -> list[str]:
    """Hash scenario, images, versions and device of each scenario.

    Images count by their content, not by where they are stored. Plug-ins that are not fedlab's own
    count by the source of their module and the version of their package, a network by its layers
    as well.

    Args:
        scenarios: The scenarios.
        images: Their images, which are loaded if they are not yet.

    Returns:
        One key of 12 hexadecimal digits for each scenario, in their order.

    Raises:
        BadInput: If images, a plug-in or the device are not available.
    """
    known: dict[Path, tuple[ImageData, str]] = {}
    found = []
    for scenario in scenarios:
        file = images.file(scenario.data)
        if file not in known:
            own = read_images(file)
            known[file] = own, image_digest(own)
        own, content = known[file]
        found.append(_key(scenario, content, _plugins(scenario, own)))
    return found


def _key(scenario: Scenario, images: str, plugins: dict[str, str]) -> str:
    device = device_of(scenario.engine.device)
    where = {"source", "root", "download", "factory"}
    facts = {
        "scenario": scenario.model_dump(
            mode="json",
            exclude={
                "name": True,
                "trackers": True,
                "data": where,
                "engine": {"address", "device", "workers"},
            },
        ),
        "images": images,
        "plugins": plugins,
        "versions": environment()["packages"],
        "code": _code(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


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
    """Source and version of all foreign plug-ins, and the layers of a foreign network."""
    found = foreign_plugins(scenario)
    model = scenario.model.factory or scenario.model.name
    if not MODELS.is_builtin(model) and model in MODELS:
        made = network_of(scenario, images)
        shapes = {name: list(value.shape) for name, value in made.state_dict().items()}
        found["layers"] = f"{made} {shapes}"
    return found
