"""A shell completes scenarios, defenses, presets and rules."""

import os
import subprocess
import sys

import pytest

import fedlab as package
from fedlab.cli.completion import (
    complete_defenses,
    complete_presets,
    complete_rules,
    complete_scenario,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "mine.toml").touch()
    (tmp_path / "mine.txt").touch()


def test_scenarios_and_toml_files_are_completed(folder):
    assert "quickstart" in complete_scenario("")
    assert complete_scenario("quick") == ["quickstart"]
    assert complete_scenario("mine") == ["mine.toml"]
    assert complete_scenario("mor") == ["more/"]
    assert complete_scenario("more/") == ["more/mine.toml"]


def test_the_last_name_of_a_list_is_completed():
    assert complete_defenses("none,dp-i") == ["none,dp-instahide"]
    assert complete_defenses("none,pruning+dp-sg") == ["none,pruning+dp-sgd"]
    assert "none" in complete_defenses("")
    assert complete_presets("fast,inverting") == ["fast,inverting-gradients"]
    assert complete_rules("FedAvg,FedMed") == ["FedAvg,FedMedian"]


@pytest.mark.slow
def test_bash_gets_completions():
    words = {"COMP_WORDS": "fedlab run quick", "COMP_CWORD": "2"}
    environment = os.environ | words | {"_FEDLAB_COMPLETE": "complete_bash"}
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'fedlab'\nfrom fedlab.cli.app import main; main()",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["quickstart"], done.stderr


def test_the_public_names_are_listed():
    assert set(package.__all__) <= set(dir(package))
