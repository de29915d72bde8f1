"""The page is complete, needs no network, escapes its input and agrees with the tables."""

import base64
import dataclasses
import io
import json
import math
import re
import shlex
import shutil

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from fedlab import BadInput, Comparison, Federation, Scenario, compare
from fedlab.report.figures.sheet import NothingToDraw
from fedlab.report.page import write_page
from fedlab.report.page.comparison_page import comparison_page
from fedlab.report.page.embedded_figures import DPI, embed
from fedlab.report.page.local_paths import (
    files_needed,
    portable_toml,
    source_of,
    without_folders,
)
from fedlab.report.page.page_content import Missing
from fedlab.results.folder import RunFolder
from tests.federations import finished, small
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
def text(written):
    return written("attacked")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_page_loads_nothing_from_a_network(text):
    assert asks_nobody(text)
    assert "default-src 'none'" in text


def test_sections_are_complete_in_order_and_linked(page):
    assert [each for each in page.ids if each in SECTIONS] == SECTIONS
    assert len(set(page.ids)) == len(page.ids)
    linked = [attrs["href"][1:] for attrs in page.all("a") if attrs["href"].startswith("#")]
    assert set(SECTIONS) <= set(linked)
    assert set(linked) <= set(page.ids)


def test_page_is_accessible(page):
    (html,) = page.all("html")
    assert html["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("title")) == 1
    assert len(page.figures) == len(page.all("figcaption")) == 4
    assert all(image["alt"].strip() for image in page.figures)
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.all("th"))
    labels = {attrs["aria-labelledby"] for attrs in page.all("section")}
    assert labels <= set(page.ids)


def test_names_are_escaped(text, page):
    assert text.count("<script") == 2  # the viewer and its data
    assert "at once <script>alert('hello')</script> & a very long name" in page.text


def test_run_page_names_no_local_path(text, attacked, page):
    assert str(attacked.path.parent) not in text
    assert "fedlab report 'a run'" in page.text


def test_threat_model_states_attacker_knowledge(page):
    assert "Honest but curious" in page.text
    assert "Labels are known" in page.text
    assert "Labels are inferred from the update" in page.text
    assert "badnets. They run the scheduled defenses." in page.text


@pytest.mark.parametrize("subject", ["attacked", "plain", "comparison"])
def test_page_never_says_safe(subject, written):
    words = Page(written(subject)).text.lower()
    assert "safe" not in words.replace("safetensors", "")


def test_question_and_verdicts_are_those_of_the_run(page):
    assert "Can the server reconstruct the images of client 0" in page.text
    assert "what does dp-sgd change?" in page.text
    assert "Leak: leaks" in page.text
    assert "under dp-sgd (0 of 1)" in page.text
    assert "Privacy spent: ε ∞" in page.text


def test_run_without_attacks_or_defenses(written):
    text = written("plain")
    assert asks_nobody(text)
    page = Page(text)
    assert "inconclusive" in page.text
    assert "not shown" in page.text
    assert "The server attacked no update" in page.text
    assert "No client poisons" in page.text
    assert "None of the 4 clients ran a mechanism" in page.text
    assert "figure-ledger" not in page.ids
    assert "How well does a federation of 4 clients learn in 1 round?" in page.text
    assert all(image["alt"] for image in page.figures)


def test_infinite_and_missing_numbers(plain, tmp_path):
    run = RunFolder.create(tmp_path / "run", plain.scenario)
    for row in plain.rounds():
        run.append_round(dataclasses.replace(row, worst_recall=math.nan, loss=math.inf))
    for name in ("clients", "ledger"):
        (run.path / f"{name}.csv").write_text((plain.path / f"{name}.csv").read_text())
    for name in ("spending.jsonl", "spending.head"):
        (run.path / name).write_text((plain.path / name).read_text())
    page = Page(write_page(run, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "∞" in page.text
    assert "nan" not in page.text.lower()
    assert " inf " not in page.text
    assert "None" not in page.text.replace("None of", "")


def test_run_without_finished_round_is_refused(tmp_path):
    federation = Federation(small(), out=tmp_path / "run")
    with pytest.raises(BadInput, match="no finished round"):
        write_page(federation.folder, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_lost_environment_file_is_named(plain, tmp_path):
    run = RunFolder(shutil.copytree(plain.path, tmp_path / "run"))
    (run.path / "environment.json").unlink()
    page = Page(write_page(run, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "no environment.json that can be read" in page.text


def test_toggles_are_listed(tmp_path):
    federation = Federation(small(rounds=2), out=tmp_path / "run")
    federation.step()
    federation.toggle("dp-sgd", on=True, clients=[1], noise_multiplier=3.0)
    federation.step()
    page = Page(write_page(federation.folder, tmp_path / "p.html").read_text(encoding="utf-8"))
    assert "Toggles during the run (1 rows)" in page.text
    assert json.loads((tmp_path / "run/toggles.jsonl").read_text())["defense"] == "dp-sgd"


def test_a_comparison(comparison, tmp_path):
    broken = dataclasses.replace(comparison, failures={"dp-sgd & <more>": "it ended"})
    text = write_page(broken, tmp_path / "page.html").read_text(encoding="utf-8")
    assert asks_nobody(text)
    page = Page(text)
    assert [each for each in page.ids if each in SECTIONS] == SECTIONS
    assert {"figure-frontier", "figure-wall", "figure-chance"} <= set(page.ids)
    assert all(image["alt"].strip() for image in page.figures)
    assert len(set(page.ids)) == len(page.ids)
    assert "Images leak without a defense (" in page.text
    assert "No leak is shown under dp-sgd:noise_multiplier=1.25+pruning (0 of 4 images" in page.text
    assert "2 seeds" in page.text
    assert "dp-sgd & <more>" in page.text
    assert "Defenses side by side" in page.text
    assert "--seeds 0,1" in page.text
    assert str(comparison.folder) not in text


@pytest.fixture(scope="module")
def own_images(tmp_path_factory):
    """Images of somebody's own in a file, and the scenario that names it by its whole path."""
    folder = tmp_path_factory.mktemp("somebody") / "private place"
    folder.mkdir()
    draw = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 80), ("test", 40)):
        arrays[f"{part}_images"] = draw.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count) % 4
    np.savez(folder / "scans.npz", **arrays)
    data = {"source": f"npz:{folder / 'scans.npz'}", "root": str(folder), "clients": 2}
    return folder, small(rounds=1, model={"name": "mlp"}, data=data)


def assert_no_place(text, folder):
    assert "npz:scans.npz" in text
    assert "Put the file scans.npz beside it." in text
    assert str(folder) not in text
    assert "private place" not in text
    assert "root = " not in text
    assert "~/" not in text


def test_run_page_names_no_image_folder(own_images, tmp_path):
    folder, scenario = own_images
    run = finished(scenario, out=tmp_path / "run").folder
    assert_no_place(write_page(run, tmp_path / "page.html").read_text(encoding="utf-8"), folder)


def test_comparison_page_names_no_image_folder(own_images, tmp_path):
    folder, scenario = own_images
    found = compare(scenario, ["none"], seeds=1, out=tmp_path / "out", processes=1)
    why = f'"{folder / "scans.npz"}" cannot be read: [Errno 2] in ~/data/set/x.npz'
    broken = dataclasses.replace(found, failures={"none-seed1": why})
    text = write_page(broken, tmp_path / "page.html").read_text(encoding="utf-8")
    assert_no_place(text, folder)
    assert '"scans.npz" cannot be read: [Errno 2] in x.npz' in Page(text).text


@pytest.mark.parametrize(
    ("source", "shown", "beside"),
    [
        ("digits", "digits", ""),
        ("npz:C:\\data\\y.npz", "npz:y.npz", "Put the file y.npz beside it."),
        ("folder:/srv/scans/", "folder:scans", "Put the folder scans beside it."),
        ("folder:../scans", "folder:scans", "Put the folder scans beside it."),
    ],
)
def test_only_last_part_of_a_path_is_shown(source, shown, beside):
    scenario = small(data={"source": source})
    assert (source_of(scenario), files_needed(scenario)) == (shown, beside)
    again = Scenario.parse(portable_toml(scenario))
    assert again == scenario.changed(data={"source": shown})


def test_only_folders_are_removed_from_a_message():
    for text in ("1 / 2 and 3 / 4 images", "https://host.org/a/b", "train and/or test/val", "3/4"):
        assert without_folders(text) == text
    assert without_folders("npz:/home/x/y.npz and C:\\a b\\c.png") == "npz:y.npz and c.png"


def test_title_notes_and_legend_stand_beside_a_figure(comparison, written):
    text = written("comparison")
    picture = comparison.plot()
    (whole,) = re.findall(r'<figure id="figure-frontier">.*?</figure>', text, re.DOTALL)
    words = Page(whole).text
    assert picture.question in words
    assert all(note in words for note in picture.notes)
    legend = picture.axes[0].get_legend()
    assert len(legend.get_texts()) == whole.count('class="sign"')
    for name in legend.get_texts():
        assert " ".join(name.get_text().split()) in words
    width, height = picture.get_size_inches()
    (image,) = Page(whole).figures
    assert int(image["width"]) == pytest.approx(width * DPI, abs=2)
    assert int(image["height"]) < height * DPI - 60


def test_signs_of_a_legend_have_its_colours(comparison):
    (figure,) = embed({"frontier": comparison.plot}, Missing()).values()
    handles = figure.picture.axes[0].get_legend().legend_handles[2:]
    for (sign, _), handle in zip(figure.legend[2:], handles, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(sign.uri.partition(",")[2]))) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3) / 255
        apart = np.abs(pixels - to_rgb(handle.get_color())).max(1)
        assert (apart < 0.02).sum() > 20  # the marker
        assert (np.abs(pixels - 1).max(1) < 0.02).sum() > 20  # white around it


def test_comparison_lists_its_defenses_below_the_schedule(written):
    (section,) = re.findall(r'<section id="schedule".*?</section>', written("comparison"), re.S)
    page = Page(section)
    assert "Each run adds one of these to all rounds and to all clients" in page.text
    assert "■ no defense" in page.text
    assert "■ dp-sgd:noise_multiplier=1.25+pruning" in page.text
    (own,) = re.findall(r'<section id="schedule".*?</section>', written("attacked"), re.S)
    assert "Each run adds" not in own


def test_failing_figure_is_not_left_out():
    def draw():
        raise ValueError("shapes do not fit")

    def nothing():
        raise NothingToDraw("nobody was attacked")

    assert embed({"a": nothing}, Missing()) == {}
    with pytest.raises(ValueError, match="shapes do not fit"):
        embed({"a": draw}, Missing())


def test_comparison_page_states_its_limits(page, written):
    assert "shared the machine's cores" not in page.text
    page = Page(written("comparison"))
    assert "shared the machine's cores" in page.text
    assert page.text.count("run again, it draws new noise under DP") == 2  # to do it, to read it


def test_threat_model_covers_every_arm(tmp_path):
    found = compare(
        small(rounds=1), ["none", "secure-aggregation"], seeds=1, out=tmp_path / "c", processes=1
    )
    content = comparison_page(found)
    hidden = dict(content.threat_model)["Hidden from the attacker"]
    assert "the server sees only the sum" in hidden


def test_system_noise_is_not_called_seeded(tmp_path):
    federation = Federation(small(rounds=2), out=tmp_path / "run")
    federation.step()
    federation.toggle("dp-sgd", on=True, clients=[1], secure_noise=True)
    federation.step()
    page = Page(write_page(federation.folder, tmp_path / "p.html").read_text(encoding="utf-8"))
    assert "bit for bit" not in page.text
    assert page.text.count("from the operating system (secure_noise)") == 3


def test_comparison_without_run_is_refused(comparison, tmp_path):
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


def test_command_refuses_what_cannot_be_reported(fedlab, attacked, tmp_path):
    Federation(small(), out=tmp_path / "begun")
    for arguments, sentence in (
        (["nothing"], "contains neither a run nor a comparison"),
        ([tmp_path / "begun"], "no finished round"),
        ([attacked.path, "--out", tmp_path], "is a folder: name an HTML file"),
    ):
        code, out, err = fedlab("report", *arguments)
        assert (code, out) == (2, "")
        assert sentence in err
        assert err.count("\n") == 1


def test_printed_command_repeats_the_comparison(comparison, fedlab, tmp_path):
    (tmp_path / "scenario.toml").write_text(comparison.scenario.to_toml())
    command = comparison_page(comparison).again.replace("\\\n", "")
    name, *arguments = shlex.split(command)
    assert name == "fedlab"
    code, _, err = fedlab(*arguments, "--processes", "1")
    assert code == 0, err
    times = ["seconds", "cpu_seconds"]
    again = Comparison.open(tmp_path / "again").frame.drop(columns=times)
    assert again.equals(comparison.frame.drop(columns=times))
