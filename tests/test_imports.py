"""Who may import whom: read from the source, so that a lazy import counts as well."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imported(path):
    """Dotted names of everything that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def tops(path):
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", files("fedlab"), ids=lambda p: str(p.relative_to(ROOT)))
def test_flower_is_known_in_three_places_only(path):
    place = path.relative_to(ROOT / "fedlab")
    allowed = place.parts[0] in ("server", "engine") or place == Path("client/app.py")
    assert allowed or "flwr" not in tops(path)


@pytest.mark.parametrize("path", files("attacks"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_adversary_stands_on_torch_alone(path):
    assert tops(path) <= {"attacks", "torch"} | sys.stdlib_module_names


@pytest.mark.parametrize("path", files("fedlab/server"), ids=lambda p: p.stem)
def test_the_server_cannot_see_the_truth(path):
    forbidden = (
        "fedlab.evaluation",
        "fedlab.evaluation.attack_evaluator",
        "fedlab.simulation.federation",
        "fedlab.data",
    )
    assert not [name for name in imported(path) if name.startswith(forbidden)]
    assert "fedlab.client.federated_data" not in imported(path)
    assert "fedlab.client.client_round" not in imported(path)


@pytest.mark.parametrize("path", files("fedlab/client"), ids=lambda p: p.stem)
def test_a_client_knows_nothing_of_the_server(path):
    assert not [name for name in imported(path) if name.startswith("fedlab.server")]


def reached(path):
    """Files of the package that a file imports, directly or through others."""
    found, ahead = set(), [path]
    while ahead:
        for name in imported(ahead.pop()):
            place = ROOT.joinpath(*name.split("."))
            inner = place.with_suffix(".py")
            if name.startswith("fedlab.") and inner.is_file() and inner not in found:
                found.add(inner)
                ahead.append(inner)
    return found


def test_nothing_that_the_server_imports_leads_to_the_truth():
    modules = files("fedlab/server")
    assert len(modules) > 4
    reachable = set().union(*map(reached, modules))
    names = {str(path.relative_to(ROOT / "fedlab")) for path in reachable}
    assert "scenario.py" in names
    assert not {name for name in names if name.startswith(("evaluation/", "data/"))}
    assert not names & {"client/federated.py", "client/work.py", "examiner.py", "federation.py"}


def test_there_is_something_to_check():
    assert len(files("fedlab")) > 40
    assert len(files("attacks")) > 5
    assert len(files("simulations")) >= 2
