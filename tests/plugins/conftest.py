"""The plug-in package, installed into a folder of its own, and commands that run with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

collect_ignore = ["package", "commands.py", "does_not_import.py"]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder into which pip installed the package ``fedlab-example``."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(HERE / "package", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    apart = ["--no-build-isolation", "--target", str(folder / "site"), str(source)]
    subprocess.run([*pip, *apart], check=True, capture_output=True, text=True)
    return folder / "site"


@pytest.fixture(scope="session")
def commands(site):
    """Runs commands of fedlab where the package is installed; returns code, output and errors."""

    def run(folder, *lines, site=site):
        paths = os.pathsep.join(map(str, [site, ROOT]))
        done = subprocess.run(
            [sys.executable, str(HERE / "commands.py")],
            cwd=folder,
            input=json.dumps([[str(part) for part in line] for line in lines]),
            env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "250", "MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    return run
