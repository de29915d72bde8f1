"""A package that is installed apart adds a plug-in of each kind, and each one appears."""

import json
import shutil

import pandas as pd
import pytest

from tests.commands import ROOT, run_commands

pytestmark = pytest.mark.xdist_group("package")  # share one installation and one run
SCENARIO = ROOT / "tests" / "plugins" / "foreign.toml"
COMPARE = (
    *("compare", SCENARIO, "--defenses", "none,pruning,example-rounding:step=0.05,example-noise"),
    *("--seeds", "1", "--processes", "1", "--set", "rounds=1", "--out", "compared"),
)
LISTED = {
    "defenses": ("example-rounding", "example-noise"),
    "poisons": ("example-dimming",),
    "updates": ("example-boost",),
    "objectives": ("example-distance",),
    "priors": ("example-contrast",),
    "labels": ("example-labels",),
    "attacks": ("example-restarts",),
    "metrics": ("example-l1",),
    "presets": ("example-preset",),
    "rules": ("example-median",),
    "models": ("example-linear",),
    "datasets": ("example-stripes",),
    "partitions": ("example-blocks",),
    "trackers": ("example-log",),
}

SEEN = """
import json, sys
from pathlib import Path
from fedlab.simulation.foreign_plugins import foreign_plugins
from fedlab.core.views import show
from fedlab.results.folder import RunFolder
run = RunFolder(Path("run"))
json.dump([show(run.ledger(), "example"), list(foreign_plugins(run.scenario))], sys.stdout)
"""
"""Prints a view of the ledger, and the plug-ins that count in the cache key of a comparison."""


@pytest.fixture(scope="module")
def done(site, tmp_path_factory):
    """A federation of the package's plug-ins, shown, listed and reported, by command."""
    folder = tmp_path_factory.mktemp("foreign")
    lines = {
        "show": ("show", SCENARIO),
        "run": ("run", SCENARIO, "--out", "run"),
        "report": ("report", "run"),
        "ledger": ("ledger", "run"),
        **{kind: ("list", kind, "--installed") for kind in LISTED},
        "seen": ("-c", SEEN),
    }
    results = dict(zip(lines, run_commands(folder, *lines.values(), packages=[site]), strict=True))
    assert not {name: result for name, result in results.items() if result[0]}
    return folder / "run", {name: out for name, (_, out, _) in results.items()}


@pytest.mark.parametrize("kind", LISTED)
def test_list_describes_installed_plugins(done, kind):
    _, outputs = done
    assert all(name in outputs[kind] for name in LISTED[kind])
    assert ("the example package" if kind == "presets" else "(fedlab-example)") in outputs[kind]


def test_show_and_tables_name_foreign_defenses(done):
    folder, outputs = done
    assert "example-rounding" in outputs["show"]
    assert "example-noise" in outputs["show"]
    clients = pd.read_csv(folder / "clients.csv", keep_default_na=False)
    assert set(clients["status"]) == {"ok"}
    defenses = clients.groupby("client")["defenses"].first()
    assert defenses[0] == defenses[1] == "example-rounding"
    assert defenses[3] == "example-noise"


def test_ledger_counts_foreign_epsilon(done):
    folder, outputs = done
    ledger = pd.read_csv(folder / "ledger.csv", keep_default_na=False)
    own = ledger[ledger["client"] == 3]
    assert set(own["mechanism"]) == {"example-noise"}
    assert set(own["unit"]) == {"client"}
    assert set(own["adjacency"]) == {"replace-one"}
    assert set(own["statement"]) == {"claimed"}
    first, second = own["epsilon_total"].astype(float)
    # Gaussian noise of twice the sensitivity: 2.17 at delta 1e-5 by RDP for one release.
    assert first == pytest.approx(2.166, abs=0.01)
    assert first < second < 2 * first
    assert set(ledger[ledger["client"] == 1]["statement"]) == {"open"}
    assert "example-noise" in outputs["ledger"]


def test_leakage_names_foreign_attack_and_metric(done):
    leakage = pd.read_csv(done[0] / "leakage.csv")
    assert set(leakage["preset"]) == {"example-preset"}
    assert set(leakage["objective"]) == {"example-distance"}
    assert not leakage["known_labels"].any()
    assert leakage["example_l1"].between(0, 1).all()


def test_report_shows_foreign_plugins(done):
    page = (done[0] / "report.html").read_text("utf-8")
    for name in ("rounding", "noise", "dimming", "boost", "preset", "median", "linear", "stripes"):
        assert f"example-{name}" in page


@pytest.fixture(scope="module")
def seen(done):
    return json.loads(done[1]["seen"])


def test_foreign_view_is_found(seen):
    assert seen[0] == "8 releases"


def test_cache_key_contains_all_foreign_plugins(seen):
    names = {name.rpartition(" ")[2] for name in seen[1]}
    # Images count by their content, and trackers change no result.
    assert names == {name for kind in LISTED for name in LISTED[kind]} - {
        "example-stripes",
        "example-log",
    }


@pytest.fixture(scope="module")
def compared(site, tmp_path_factory):
    """A comparison of two foreign defenses with one of ours, by command."""
    folder = tmp_path_factory.mktemp("compared")
    code, out, err = run_commands(folder, COMPARE, packages=[site])[0]
    assert code == 0, err
    return folder / "compared", out


@pytest.mark.slow
def test_compare_shows_foreign_defenses(compared):
    folder, out = compared
    assert "example-rounding" in out
    frame = pd.read_csv(folder / "comparison.csv")
    assert len(set(frame["defense"])) == 4
    page = (folder / "report.html").read_text("utf-8")
    assert "example-rounding" in page
    assert "example-noise" in page


@pytest.mark.slow
def test_changed_plugin_runs_again(compared, site, tmp_path):
    folder, _ = compared
    before = set(folder.glob("runs/*"))
    changed = shutil.copytree(site, tmp_path / "changed")
    source = changed / "fedlab_example" / "defenses.py"
    source.write_text(source.read_text("utf-8").replace(".round()", ".floor()"), "utf-8")
    code, _, err = run_commands(folder.parent, COMPARE, packages=[changed])[0]
    assert code == 0, err
    names = {
        path.name.partition("-example-median")[0] for path in set(folder.glob("runs/*")) - before
    }
    assert names == {"example-rounding-step=0.05", "example-noise"}
