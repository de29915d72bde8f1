"""The plug-in package, installed into a folder of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

collect_ignore = ["package", "does_not_import.py"]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder into which pip installed the package ``fedlab-example``."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(HERE / "package", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    apart = ["--no-build-isolation", "--target", str(folder / "site"), str(source)]
    subprocess.run([*pip, *apart], check=True, capture_output=True, text=True)
    return folder / "site"
