"""A disk that takes no more bytes costs one sentence that names the file; the run can go on."""

import subprocess
import sys

import pytest

from fedlab import Federation
from fedlab.cli.app import main
from tests.federations import small

resource = pytest.importorskip("resource", reason="limits of files need a Unix")


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))


@pytest.mark.slow
def test_run_on_a_full_disk_names_the_file_and_resumes(tmp_path):
    run = tmp_path / "run"
    Federation(small(rounds=2), out=run).step()
    ended = subprocess.run(
        [sys.executable, "-m", "fedlab", "resume", run],
        preexec_fn=limit_files,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"fedlab: {run}/")
    assert ended.stderr.endswith("File too large\n")
    resumed = Federation.resume(run)
    resumed.run()
    assert resumed.round == 2


def test_input_that_is_missing_is_bad_input(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fedlab", "run", str(tmp_path / "missing.toml")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "missing.toml" in capsys.readouterr().err
