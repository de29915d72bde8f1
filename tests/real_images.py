"""Where tests find real images, which the project never contains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(
    os.environ.get("FEDLAB_TEST_IMAGES", Path(__file__).resolve().parents[2] / "shared" / "data")
)


def npz(name: str, into: Path, *options: str) -> Path:
    """One of the image sets as .npz; skips the test where there are none."""
    maker = FOLDER / "make_npz.py"
    if not maker.is_file():
        pytest.skip("no real images here: FEDLAB_TEST_IMAGES names no folder with make_npz.py")
    target = into / f"{name}.npz"
    subprocess.run(
        [sys.executable, str(maker), name, str(target), *options],
        check=True,
        capture_output=True,
    )
    return target
