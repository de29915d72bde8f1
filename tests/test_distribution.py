"""What an installed fedlab consists of, and on which versions of other packages it stands."""

import ast
import tomllib
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

from hatchling.build import build_wheel
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}


def test_the_wheel_holds_every_file_of_the_packages(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        held = set(wheel.namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("fedlab", "attacks", "simulations")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"fedlab/py.typed", "simulations/quickstart.toml"} <= wanted
    assert {name for name in held if ".dist-info/" not in name} == wanted
    assert any(name.endswith("dist-info/entry_points.txt") for name in held)


def test_every_dependency_is_bounded_by_what_is_tested():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert any(bound.operator == "<" for bound in requirement.specifier), requirement
        assert requirement.specifier.contains(version(requirement.name)), requirement


def test_one_file_names_flowers_private_modules():
    private = {}
    for path in [*(ROOT / "fedlab").rglob("*.py"), *(ROOT / "simulations").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            found = {each for each in names if each.split(".")[0] == "flwr"} - PUBLIC
            if found:
                private.setdefault(str(path.relative_to(ROOT)), set()).update(found)
    assert list(private) == ["fedlab/protocol/flower.py"]
