"""A run folder that an earlier version wrote (0.1.0, before plug-ins): it is read and continued."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedlab import BadInput, Federation
from fedlab.cli.app import app
from fedlab.results.folder import RunFolder

OLD = Path(__file__).with_name("old_run")
"""Two clients, two of three rounds: one client leaks in round 1, the other runs DP-SGD, and a
toggle switches DP-SGD on for the former in round 3."""


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(OLD, tmp_path / "run"))


def test_tables_and_accounts_are_read(old):
    run = RunFolder.open(old)
    assert run.scenario.name == "old-run"
    assert [row.accuracy for row in run.rounds()] == [0.075, 0.1, 0.1]
    assert run.table("clients")["defenses"].tolist() == ["none", "dp-sgd"] * 2
    assert len(run.table("leakage")) == 1
    # As the earlier version reported it.
    assert run.ledger().total(1) == pytest.approx(7.409733637376934)


def test_run_is_resumed_to_the_same_end(old):
    federation = Federation.resume(old)
    assert federation.round == 2
    federation.run()
    # As the earlier version ended it.
    assert federation.folder.rounds()[-1].accuracy == pytest.approx(0.075)
    assert federation.folder.rounds()[-1].loss == pytest.approx(2.336790084838867, rel=1e-5)
    assert federation.ledger.protected(0) == pytest.approx(25.930920950267986)
    assert federation.ledger.total(1) == pytest.approx(8.98173773631313)
    assert float(federation.state["0.weight"].sum()) == pytest.approx(-1.74824822, rel=1e-4)


def test_kept_capture_is_attacked_again(old):
    leak = Federation.resume(old).reconstruct(
        round=1, client=0, preset="inverting-gradients", iterations=5, power=False
    )
    assert leak.rows[0].psnr == pytest.approx(5.730319676407998, rel=1e-4)


@pytest.mark.parametrize(
    "command",
    [
        ["report"],
        ["reconstruct", "--round", "1", "--client", "0", "--iterations", "5"],
        ["ledger"],
        ["resume"],
    ],
    ids=lambda command: command[0],
)
def test_commands_work_on_it(old, command):
    name, *options = command
    outcome = CliRunner().invoke(app, [name, str(old), *options])
    assert outcome.exit_code == 0, outcome.exception


def test_unknown_setting_is_refused_with_its_name(old):
    scenario = old / "scenario.toml"
    scenario.write_text(scenario.read_text().replace("quantile_lr", "quantile_rate"))
    with pytest.raises(BadInput, match="quantile_rate"):
        Federation.resume(old)
