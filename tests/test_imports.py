"""What the import contracts in pyproject.toml cannot express."""

import subprocess
import sys
from pathlib import Path

import grimp

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
