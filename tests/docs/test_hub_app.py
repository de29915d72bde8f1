"""The thin app for Flower's Hub is built by Flower, and has what the Hub asks for."""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

from tests.commands import ROOT

APP = ROOT / "docs" / "hub-app"
SETTINGS = tomllib.loads((APP / "pyproject.toml").read_text("utf-8"))
MOST = 1_000_000
"""Bytes of a file that the Hub takes."""


def test_flower_builds_the_app(tmp_path):
    command = [str(Path(sys.executable).with_name("flwr")), "build", "--app", str(APP)]
    environment = os.environ | {"FLWR_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    (bundle,) = tmp_path.glob("*.fab")
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
        assert {"pyproject.toml", "README.md", "LICENSE"} <= set(names), done.stdout
        assert {f"fedlab_quickstart/{side}_app.py" for side in ("client", "server")} <= set(names)
        assert all(info.file_size < MOST for info in archive.infolist())


def test_its_components_are_those_of_fedlab(monkeypatch):
    monkeypatch.syspath_prepend(APP)
    components = SETTINGS["tool"]["flwr"]["app"]["components"]
    for name in components.values():
        module, _, attribute = name.partition(":")
        own = import_module(module.replace("fedlab_quickstart", "simulations"))
        assert getattr(import_module(module), attribute) is getattr(own, attribute)


def test_it_has_the_settings_of_the_repository():
    own = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert SETTINGS["tool"]["flwr"]["app"]["config"] == own["tool"]["flwr"]["app"]["config"]
    (flower,) = (each for each in own["project"]["dependencies"] if each.startswith("flwr"))
    assert flower in SETTINGS["project"]["dependencies"]


def test_the_image_copies_what_exists():
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    for line in (each for each in lines if each.startswith("COPY")):
        *sources, _ = line.split()[1:]
        assert all((ROOT / source).exists() for source in sources)
