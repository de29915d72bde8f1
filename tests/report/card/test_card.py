"""The card: its numbers are those of the tables, in HTML and Markdown alike."""

import html
import re
from dataclasses import replace

import pandas as pd
import pytest

from fedlab import Federation
from fedlab.core.attack_plugins import PRESETS
from fedlab.core.environment import version_of
from fedlab.core.errors import RunFailed
from fedlab.report.card import write_card
from fedlab.report.card.content import card_of
from fedlab.report.card.untested import DAMAGED, adaptation
from fedlab.report.page.run_page import run_page
from fedlab.report.verdicts.taxonomy import LETTERS, letters_tested, untested_sentence
from fedlab.results.attacks import counted_images, scored_images
from fedlab.results.folder import RunFolder
from tests.federations import small
from tests.report.page.conftest import attacked, comparison, plain  # noqa: F401
from tests.report.page.pages import Page, asks_nobody

SUBJECTS = ["attacked", "plain", "comparison"]
TITLES = [
    "Question",
    "Answer",
    "What leaked",
    "Privacy spent and certified",
    "What was not tested",
    "Who attacks",
    "What the words mean",
    "How to repeat it",
]


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def texts(subject, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "new"
    for name in ("card.html", "card.md"):
        write_card(subject, folder / name)
    return [(folder / name).read_text(encoding="utf-8") for name in ("card.html", "card.md")]


def words(text):
    return re.findall(r"[\w.∞εδ%]+", text)


def test_card_loads_nothing_and_never_says_safe(texts):
    assert asks_nobody(texts[0])
    assert "default-src 'none'" in texts[0]
    assert "<script" not in texts[0]
    assert re.search(r"(?<!\\)<", texts[1]) is None
    for text in (Page(texts[0]).text, texts[1]):
        assert "safe" not in text.lower()
        assert "surrogate" not in text.lower()  # a word of the field that an officer need not know
        assert " nan " not in text.lower()
    assert "://" not in texts[1]


def test_html_and_markdown_have_the_same_words(texts):
    seen = Page(texts[0]).text.split(": card", 1)[1]
    plain_text = re.sub(r"\|[-:| ]*-[-:| ]*\|", " ", texts[1])
    plain_text = html.unescape(re.sub(r"\\(.)", r"\1", plain_text)).replace("# ", " ")
    # Markdown has the line ends of the command as they are, and HTML too.
    assert words(seen) == words(plain_text)


def test_sections_are_in_order(subject):
    assert [section.title for section in card_of(subject).sections] == TITLES


def tables(subject, number):
    return card_of(subject).sections[2].tables[number].rows


def test_counts_are_those_of_the_table(attacked):  # noqa: F811
    (row,) = tables(attacked, 0)
    found = counted_images(scored_images(attacked.table("leakage")))
    assert row[1:3] == (str(found.images), str(found.leaking))
    assert row[4] == str(found.recognisable)
    assert row[5].split()[0] == str(found.inconclusive)
    grades = (found.leaking, found.recognisable, found.inconclusive, int(row[6]))
    assert sum(grades) == found.images > 0
    assert found.leaking


def test_comparison_counts_each_defense(comparison):  # noqa: F811
    rows = {row[0]: row for row in tables(comparison, 0)}
    groups = scored_images(comparison.leakage).groupby("defense")
    assert len(rows) == len(comparison.defenses) == len(groups)
    for defense, each in groups:
        found = counted_images(each)
        name = "without a defense" if defense == "none" else f"under {defense}"
        assert rows[name][1:3] == (str(found.images), str(found.leaking))
        assert f"{100 * found.low:.0f}" in rows[name][3]


def test_every_attack_has_its_power_or_says_not_measured(attacked):  # noqa: F811
    rows = tables(attacked, 1)
    assert {row[1] for row in rows} == set(scored_images(attacked.table("leakage"))["attack"])
    assert {row[4] for row in rows} == {"not measured"}
    assert "The power of analytic was not measured" in limits(attacked)


def limits(subject):
    return " ".join(card_of(subject).sections[4].points)


def test_card_counts_what_was_not_attacked(attacked, comparison):  # noqa: F811
    text = limits(attacked)
    assert "6 of 8 updates that clients sent were not attacked" in text
    assert "none of clients 1-3 was" in text
    assert f"{len(PRESETS.builtin) - 1} of {len(PRESETS.builtin)} built-in" in text
    assert "easier than a real one" in text
    assert "24 of 32 updates" in limits(comparison)


def test_skipped_images_are_counted(attacked, tmp_path):  # noqa: F811
    run = RunFolder(tmp_path / "run")
    copied(attacked, run.path)
    table = pd.read_csv(run.path / "leakage.csv", dtype=str, keep_default_na=False)
    second = (table["round"] == "2") & (table["target"] == "original")
    table.loc[second, ["skipped", "verdict", "psnr"]] = ["too many images", "inconclusive", ""]
    table.to_csv(run.path / "leakage.csv", index=False)
    rows = scored_images(run.table("leakage"))
    lost = counted_images(rows).skipped
    assert lost > 0
    images = counted_images(rows).images
    assert f"{lost} of {images} images behind attacked updates were not attacked" in limits(run)
    assert f"({lost} not attacked)" in tables(run, 0)[0][5]


def copied(run, path):
    path.mkdir()
    for file in run.path.iterdir():
        if file.is_file() and not file.name.startswith("."):
            (path / file.name).write_bytes(file.read_bytes())


def test_run_without_attacks_says_so(plain):  # noqa: F811
    sections = card_of(plain).sections
    training, leak = sections[1].points[:2]
    assert training.startswith("Training: learned nothing.")
    assert leak.startswith("Leak: inconclusive.")
    assert sections[2].sentences == ["No image was attacked and scored."]
    assert "no threat model of reconstruction was tested" in sections[5].sentences[0]
    text = limits(plain)
    assert "4 of 4 updates that clients sent were not attacked. Nothing is known" in text
    assert all(f"{letter} (" in text for letter in LETTERS)
    assert "No poisoning is tested." in text


def test_epsilons_are_those_of_the_ledger(attacked):  # noqa: F811
    page = run_page(attacked)
    (table,) = card_of(attacked).sections[3].tables
    assert table.rows == page.ledger[0][1].rows
    assert "delta = 1e-05" in table.note
    assert table.title == "Client by client"


def test_card_says_which_runs_its_privacy_is_of(comparison):  # noqa: F811
    section = card_of(comparison).sections[3]
    assert len(section.tables) == 2 < len(comparison.runs)
    assert section.sentences[0].startswith("Each table is of the first run of a defense")


def test_threat_models_have_letters():
    ran = pd.DataFrame({"threat": ["honest-but-curious", "malicious"]})
    assert letters_tested(ran) == ["D", "G"]
    assert letters_tested(ran.assign(letter=["D", "H"])) == ["D", "H"]
    assert letters_tested(ran[:0]) == []
    named = {letter for letter in LETTERS if f"{letter} (" in untested_sentence(["D", "G"])}
    assert named == {"E", "H"}


def test_damaged_table_costs_only_its_part(attacked, tmp_path):  # noqa: F811
    run = RunFolder(tmp_path / "run")
    copied(attacked, run.path)
    (run.path / "clients.csv").write_text("round\nnothing\n")
    assert "a clients.csv is damaged" in limits(run)


def test_damaged_leakage_is_not_taken_for_no_attack(attacked, tmp_path):  # noqa: F811
    run = RunFolder(tmp_path / "run")
    copied(attacked, run.path)
    (run.path / "leakage.csv").write_text("round\nnothing\n")
    with pytest.raises(RunFailed, match="lacks what could not be read"):
        write_card(run)
    text = (run.path / "card.md").read_text()
    assert text.count(DAMAGED.replace("_", "\\_")) == 3
    assert "did not run" not in text
    assert "no threat model" not in text


def test_versions_and_seed_are_stated(attacked):  # noqa: F811
    about, *_ = card_of(attacked).sections[-1].sentences
    assert about.startswith("Seed 0; Python ")
    assert f"fedlab-privacy {version_of('fedlab-privacy')}" in about


def test_failed_runs_are_counted(comparison):  # noqa: F811
    broken = replace(comparison, failures={"mixup seed 1": "it ended"})
    assert "1 of 5 runs have no result: mixup seed 1." in limits(broken)


def test_command_writes_both_files(fedlab, attacked, comparison, tmp_path):  # noqa: F811
    code, out, _ = fedlab("report", attacked.path, "--card")
    assert code == 0
    assert out.count("card:") == 2
    assert {"card.html", "card.md"} <= {file.name for file in attacked.path.iterdir()}
    code, _, _ = fedlab("report", comparison.folder, "--card", "--out", tmp_path / "c" / "a.md")
    assert code == 0
    assert [file.name for file in (tmp_path / "c").iterdir()] == ["a.md"]
    assert comparison.report(tmp_path / "b.html", card=True) == tmp_path / "b.html"


def test_command_refuses_what_has_no_card(fedlab, attacked, tmp_path):  # noqa: F811
    Federation(small(), out=tmp_path / "begun")
    for arguments, sentence in (
        (["nothing"], "contains neither a run nor a comparison"),
        ([tmp_path / "begun"], "no finished round"),
        ([attacked.path, "--out", tmp_path / "card.pdf"], "must end in .html or .md"),
    ):
        code, out, err = fedlab("report", *arguments, "--card")
        assert (code, out) == (2, "")
        assert sentence in err
        assert err.count("\n") == 1


def test_defenses_without_an_adapted_attack_are_named():
    ran = small(defenses=[{"name": "dcs-2"}, {"name": "pruning"}, {"name": "ats", "clients": "1"}])
    assert adaptation([ran]).startswith("No attack has rules made for ats and dcs-2;")
    assert adaptation([small(defenses=[{"name": "pruning"}])]) == ""
