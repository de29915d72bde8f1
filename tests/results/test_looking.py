"""Looking at somebody's run folder executes nothing of it, even if its plug-ins are gone."""

import logging
import shutil
from pathlib import Path

import pytest

from fedlab import BadInput, Federation, Scenario
from fedlab.core.plugins import PluginFailed, looking
from fedlab.results.folder import RunFolder
from tests.commands import call
from tests.results.test_old_run import OLD

ROLES = """roles = [
    { role = "poisoning", data = { attack = "strangers:Poison" }, rounds = "3", clients = "1" },
    { role = "poisoning", update = { attack = "not-installed" }, rounds = "2", clients = "1" },
"""

STRANGER = """
import pathlib

pathlib.Path("mark").touch()
raise SystemExit(3)
"""

DEFENSE = """
[[defenses]]
name = "strangers:Defense"
rounds = "3"
clients = "1"
some_setting = 0.3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run, without a record of its scenario, that names code which leaves a mark if imported."""
    run = Path(shutil.copytree(OLD, tmp_path / "run"))
    scenario = run / "scenario.toml"
    text = scenario.read_text().replace("roles = [\n", ROLES)
    named = 'metrics = ["strangers:metric"]\ntrackers = ["strangers:Tracker"]\n'
    scenario.write_text(named + text + DEFENSE)
    (tmp_path / "strangers.py").write_text(
        "import pathlib\npathlib.Path('mark').touch()\nraise SystemExit(3)\n"
    )
    monkeypatch.chdir(tmp_path)
    return run


@pytest.mark.parametrize(
    "command",
    [
        ["report", "run"],
        ["ledger", "run"],
        ["export", "run", "--to", "csv", "--out", "out"],
        ["export", "run", "--to", "tensorboard", "--out", "out"],
        ["list"],
    ],
    ids=lambda command: "-".join(command[:4]),
)
def test_commands_that_look_import_nothing(folder, command):
    code, _, err = call(command)
    assert (code, err) == (0, "")
    assert not Path("mark").exists()


def test_show_imports_nothing_and_wants_known_names(folder):
    file = folder / "scenario.toml"
    assert call(["show", str(file)])[0] == 2
    file.write_text(file.read_text().replace("not-installed", "strangers:Update"))
    code, out, _ = call(["show", str(file)])
    assert code == 0
    assert "strangers:Defense" in out
    assert not Path("mark").exists()


def test_settings_of_a_stranger_are_kept(folder):
    scenario = RunFolder.open(folder).scenario
    assert scenario.defenses[-1].model_dump()["some_setting"] == 0.3
    with looking("run"):
        assert Scenario.parse(scenario.to_toml()) == scenario
    with pytest.raises(PluginFailed, match="was not imported"):
        scenario.defenses[-1].wrap(None, None)


def test_resume_imports_and_says_so(folder, caplog):
    with pytest.raises(BadInput, match="cannot be imported"):
        Federation.resume(folder)
    assert Path("mark").exists()
    with caplog.at_level(logging.INFO, "fedlab"):
        Federation(Scenario(data={"source": "tests.foreign:images", "clients": 2}))
    assert "this runs code that the scenario names: tests.foreign:images" in caplog.text
