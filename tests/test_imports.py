"""What the import contracts in pyproject.toml cannot express."""

import subprocess
import sys
from pathlib import Path

import grimp
import torch

ROOT = Path(__file__).resolve().parents[1]


def test_attacks_import_torch_and_stdlib_only():
    graph = grimp.build_graph("attacks", include_external_packages=True, cache_dir=None)
    imported = {name for name in graph.modules if graph.is_module_squashed(name)}
    assert imported - sys.stdlib_module_names == {"torch"}


def test_imports_are_absolute():
    dots = [path for path in (ROOT / "fedlab").rglob("*.py") if "\nfrom ." in path.read_text()]
    assert not dots


def test_reading_scenarios_loads_no_torch():
    code = """
import sys
from fedlab.scenario.scenario import Scenario, packaged
names = packaged()
assert len(names) > 20
for name in names:
    Scenario.load(name)
heavy = {"torch", "torchvision", "opacus", "flwr", "ray", "matplotlib", "sklearn"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_plain_clients_load_no_opacus_and_no_torchvision():
    """They take seconds and 130 MB in every process that runs clients."""
    code = """
import sys
from fedlab import Scenario
from fedlab.client.federated_data import FederatedData
from fedlab.engine import workers
FederatedData.of(Scenario(data={"source": "tests.test_imports:blank", "clients": 2}))
print(sorted({"torchvision", "opacus", "torch._dynamo", "scipy.stats"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def blank():
    """Images that need no other package."""
    from fedlab.data import ImageData

    images, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
    return ImageData("blank", images, labels, images, labels, ("a", "b"), (0.5,), (0.5,))
