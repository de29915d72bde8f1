"""What the import contracts in pyproject.toml cannot express."""

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
