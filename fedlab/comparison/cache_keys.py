"""What a finished run is kept under: whatever its result depends on, and nothing else."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import torch

from fedlab.client.federated_data import network_of, whole_images
from fedlab.core.devices import device_of
from fedlab.core.digest import digest
from fedlab.core.environment import environment
from fedlab.core.errors import BadInput
from fedlab.core.factories import resolve
from fedlab.data.images import ImageData
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Data

PACKAGES = ("fedlab", "attacks")
"""Whose source counts as part of their version, so that results of two codes never mix."""
LOOKS_ONLY = ("fedlab/report", "fedlab/integrations/exports", "fedlab/cli")
"""What no result depends on."""


def keys_of(scenarios: Iterable[Scenario]) -> list[str]:
    """A hash of scenario, images, versions and device for each of some scenarios.

    Images count by their content and not by where they are, a network of the user's own by its
    layers and the source of its module.

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
        network = _network(scenario, images) if scenario.model.factory else ""
        found.append(_key(scenario, content, network))
    return found


def _key(scenario: Scenario, images: str, network: str) -> str:
    device = device_of(scenario.engine.device)
    where = {"source", "root", "download", "factory"}
    facts = {
        "scenario": scenario.model_dump(
            mode="json", exclude={"name": True, "data": where, "engine": {"device"}}
        ),
        "images": images,
        "network": network,
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


def _network(scenario: Scenario, images: ImageData) -> str:
    """Of a network of the user's own: its layers, and the source of what makes it."""
    made = network_of(scenario, images)
    shapes = {name: list(value.shape) for name, value in made.state_dict().items()}
    return f"{made} {shapes} {_source(resolve(scenario.model.factory or ''))}"


def _source(function: Callable[..., object]) -> str:
    """All of a module's file, or a function's own lines where it is in none, as in a notebook."""
    try:
        file = inspect.getsourcefile(function)
        if file is not None and Path(file).is_file():
            return Path(file).read_text(encoding="utf-8")
        return inspect.getsource(function)
    except (OSError, TypeError) as error:
        raise BadInput(
            f"model.factory has no source that would tell its versions apart ({error}): name a "
            "function of a module"
        ) from error
