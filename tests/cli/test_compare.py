"""``fedlab compare``: the files and words it leaves, and how it ends."""

import pytest

from fedlab import Comparison
from tests.federations import small

SHORT = small("rounds=1").to_toml()


@pytest.fixture
def compared(fedlab, tmp_path):
    (tmp_path / "short.toml").write_text(SHORT)

    def call(defenses, *options):
        common = ("--seeds", "1", "--processes", 1, "--out", "compared")
        return fedlab("compare", "short.toml", "--defenses", defenses, *common, *options)

    return call


def test_a_comparison_leaves_its_files(compared, tmp_path):
    code, out, _ = compared("none, mixup")
    assert code == 0
    for name in ("comparison.csv", "summary.csv", "report.html"):
        assert (tmp_path / "compared" / name).is_file()
        assert name in out
    assert "left out" not in out
    assert Comparison.open(tmp_path / "compared").defenses == ("none", "mixup")
    code, out, _ = compared("mixup")
    assert code == 0
    assert "left out of these: 1 run of other defenses" in out
    assert Comparison.open(tmp_path / "compared").defenses == ("mixup",)


def test_failed_runs_exit_with_one_after_the_tables(compared):
    code, out, err = compared("none,dp-instahide:k=50")
    assert code == 1
    assert "page: " in out
    assert "these runs have no result: dp-instahide-k=50-FedAvg-seed-0" in err


def test_a_refused_comparison_leaves_no_folder(compared, tmp_path):
    code, _, err = compared("none", "--set", "data.clients=500")
    assert code == 1
    assert "500 clients cannot share" in err
    assert not (tmp_path / "compared").exists()


def test_two_settings_of_a_defense_are_compared(compared, tmp_path):
    settings = tuple(f"dp-sgd:noise_multiplier={each}" for each in (1, 4))
    assert compared(",".join(settings))[0] == 0
    assert Comparison.open(tmp_path / "compared").defenses == settings


@pytest.mark.parametrize(
    ("defenses", "options", "sentence"),
    [
        ("nothing", (), "there is no defense"),
        ("none", ("--seeds", "some"), 'seeds "some" must be'),
        ("none", ("--seeds", "0"), "at least one seed"),
        ("none", ("--rules", "FedAwg"), "FedAwg"),
        ("none", ("--attacks", "quick"), "quick"),
    ],
)
def test_bad_input_is_one_sentence(compared, tmp_path, defenses, options, sentence):
    code, out, err = compared(defenses, *options)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "compared").exists()
