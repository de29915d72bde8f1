"""The page is whole, stands alone, escapes what it is told and says what the tables say."""

import dataclasses
import json
import math
import shlex

import pytest

from fedlab import BadInput, Comparison, Federation
from fedlab.report.page import write_page
from fedlab.report.page.of_comparison import page_of_comparison
from fedlab.runs.folder import RunFolder
from tests.federations import small
from tests.report.page.pages import Page, asks_nobody

SECTIONS = [
    "question",
    "verdict",
    "threat-model",
    "schedule",
    "figures",
    "tables",
    "ledger",
    "environment",
    "scenario",
    "reproduce",
    "meaning",
]


@pytest.fixture(scope="module")
def text(attacked, tmp_path_factory):
    path = write_page(attacked, tmp_path_factory.mktemp("page") / "new" / "page.html")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_it_stands_alone(text):
    assert asks_nobody(text)
    assert "default-src 'none'" in text


def test_all_sections_are_there_in_order_and_named_by_the_list(page):
    assert [each for each in page.ids if each in SECTIONS] == SECTIONS
    assert len(set(page.ids)) == len(page.ids)
    linked = [attrs["href"][1:] for attrs in page.all("a") if attrs["href"].startswith("#")]
    assert set(SECTIONS) <= set(linked)
    assert set(linked) <= set(page.ids)


def test_it_can_be_heard_and_read_on_a_phone(page):
    (html,) = page.all("html")
    assert html["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("title")) == 1
    assert len(page.all("img")) == len(page.all("figcaption")) == 4
    assert all(image["alt"].strip() for image in page.all("img"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.all("th"))
    labels = {attrs["aria-labelledby"] for attrs in page.all("section")}
    assert labels <= set(page.ids)


def test_what_it_is_told_is_escaped(text, page):
    assert "<script" not in text
    assert "at once <script>alert('hello')</script> & a very long name" in page.text


def test_it_names_no_place_of_this_machine(text, attacked, page):
    assert str(attacked.path.parent) not in text
    assert "fedlab report 'a run'" in page.text


def test_the_threat_model_says_what_the_attacker_knows(page):
    assert "Honest but curious" in page.text
    assert "labels are granted" in page.text
    assert "labels are inferred from the update" in page.text
    assert "badnets. They run the scheduled defenses." in page.text


def test_it_never_says_safe(page):
    assert "safe" not in page.text.lower().replace("safetensors", "")


def test_its_question_and_answers_are_those_of_the_run(page):
    assert "Can the server rebuild the images of client 0" in page.text
    assert "what does dp-sgd do about it?" in page.text
    assert "Leak: leaks" in page.text
    assert "under dp-sgd (0 of 1)" in page.text
    assert "Privacy spent: ε ∞" in page.text


def test_a_run_in_which_nothing_happens(plain, tmp_path):
    text = write_page(plain, tmp_path / "page.html").read_text(encoding="utf-8")
    assert asks_nobody(text)
    page = Page(text)
    assert page.text.count("not shown") >= 2
    assert "The server attacked nobody" in page.text
    assert "Nobody poisons here" in page.text
    assert "No reply of 4 clients was under a mechanism" in page.text
    assert "figure-ledger" not in page.ids
    assert "How well does a federation of 4 clients learn in 1 round?" in page.text
    assert all(image["alt"] for image in page.all("img"))


def test_infinite_and_missing_numbers(plain, tmp_path):
    run = RunFolder.create(tmp_path / "run", plain.scenario)
    for row in plain.rounds():
        run.append_round(dataclasses.replace(row, worst_recall=math.nan, loss=math.inf))
    for name in ("clients", "ledger"):
        (run.path / f"{name}.csv").write_text((plain.path / f"{name}.csv").read_text())
    (run.path / "spending.jsonl").write_text((plain.path / "spending.jsonl").read_text())
    page = Page(write_page(run, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "∞" in page.text
    assert "nan" not in page.text.lower()
    assert " inf " not in page.text
    assert "None" not in page.text.replace("None of", "")


def test_a_run_of_no_finished_round(tmp_path):
    federation = Federation(small(), out=tmp_path / "run")
    with pytest.raises(BadInput, match="no finished round"):
        write_page(federation.folder, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_run_whose_environment_is_lost(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("fedlab.report.page.of_run.environment_table", lambda _: _missing(tmp_path))
    page = Page(write_page(plain, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "no environment.json that can be read" in page.text


def _missing(folder):
    from fedlab.report.page.environment import environment_table

    return environment_table(folder)


def test_toggles_are_listed(tmp_path):
    federation = Federation(small(rounds=2), out=tmp_path / "run")
    federation.step()
    federation.toggle("dp-sgd", on=True, clients=[1], noise_multiplier=3.0)
    federation.step()
    page = Page(write_page(federation.folder, tmp_path / "p.html").read_text(encoding="utf-8"))
    assert "Switched while it ran (1)" in page.text
    assert json.loads((tmp_path / "run/toggles.jsonl").read_text())["defense"] == "dp-sgd"


def test_a_comparison(comparison, tmp_path):
    broken = dataclasses.replace(comparison, failures={"dp-sgd & <more>": "it ended"})
    text = write_page(broken, tmp_path / "page.html").read_text(encoding="utf-8")
    assert asks_nobody(text)
    page = Page(text)
    assert [each for each in page.ids if each in SECTIONS] == SECTIONS
    assert {"figure-frontier", "figure-wall", "figure-chance"} <= set(page.ids)
    assert all(image["alt"].strip() for image in page.all("img"))
    assert len(set(page.ids)) == len(page.ids)
    assert "Images leak without a defense (" in page.text
    assert "no leak is shown under dp-sgd:noise_multiplier=1.25+pruning (0 of 4 images" in page.text
    assert "2 seeds" in page.text
    assert "dp-sgd & <more>" in page.text
    assert "Defenses side by side" in page.text
    assert "--seeds 0,1" in page.text
    assert str(comparison.folder) not in text


def test_a_comparison_without_a_run(comparison, tmp_path):
    empty = dataclasses.replace(comparison, runs=(), failures={"none seed 0": "it ended"})
    with pytest.raises(BadInput, match=r"no finished run.*none seed 0: it ended"):
        write_page(empty, tmp_path / "page.html")


def test_the_command(fedlab, attacked, tmp_path):
    code, out, _ = fedlab("report", attacked.path)
    assert code == 0
    assert "report.html" in out
    assert Page((attacked.path / "report.html").read_text(encoding="utf-8")).ids
    code, _, _ = fedlab("report", attacked.path, "--out", tmp_path / "new" / "other.html")
    assert code == 0
    assert (tmp_path / "new" / "other.html").is_file()


def test_the_command_where_there_is_nothing(fedlab, attacked, tmp_path):
    Federation(small(), out=tmp_path / "begun")
    for arguments, sentence in (
        (["nothing"], "holds neither a run nor a comparison"),
        ([tmp_path / "begun"], "no finished round"),
        ([attacked.path, "--out", tmp_path], "is a folder: name an HTML file"),
    ):
        code, out, err = fedlab("report", *arguments)
        assert (code, out) == (2, "")
        assert sentence in err
        assert err.count("\n") == 1


def test_the_command_of_a_comparison_makes_the_same_one(comparison, fedlab, tmp_path):
    (tmp_path / "scenario.toml").write_text(comparison.scenario.to_toml())
    command = page_of_comparison(comparison).commands[0].text.replace("\\\n", "")
    name, *arguments = shlex.split(command)
    assert name == "fedlab"
    code, _, err = fedlab(*arguments, "--processes", "1")
    assert code == 0, err
    again = Comparison.open(tmp_path / "again").frame.drop(columns="seconds")
    assert again.equals(comparison.frame.drop(columns="seconds"))
