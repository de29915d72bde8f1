"""The viewer has the images and scores of the tables, each image once, and says what it leaves."""

import base64
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fedlab.evaluation.leaks import load_leaks, save_leaks
from fedlab.report.page.viewer import MOST_CHARACTERS, MOST_UPDATES, viewer_of
from fedlab.report.tables.numbers import decibels
from fedlab.results.attacks import scored_images
from fedlab.results.folder import RunFolder
from tests.report.page.pages import Page


def pixels(data, image, name):
    """Grey levels of a picture of an image."""
    (place,) = [place for kind, place in image["pictures"] if kind == name]
    with Image.open(io.BytesIO(base64.b64decode(data["pictures"][place]))) as picture:
        return np.asarray(picture)


def scores_of(data):
    """Scores of every image, by the values of its step and its place."""
    return sorted(
        (
            *(axis["values"][at] for axis, at in zip(data["axes"], step["at"], strict=True)),
            *(image["image"], image["attack"], image["defense"], image["verdict"]),
            *(image["psnr"], image["chance"]),
        )
        for step in data["steps"]
        for image in step["images"]
    )


def rows_of(leakage, *arm):
    """The same from a leakage table."""
    return sorted(
        (
            *(str(row[name]) for name in ("round", "client", *arm)),
            *(row["image"], row["attack"], row["defenses"], row["verdict"]),
            *(decibels(row["psnr"]), decibels(row["chance_psnr"])),
        )
        for _, row in scored_images(leakage).iterrows()
    )


def test_viewer_of_a_run_has_the_rows_of_its_table(attacked, written):
    data = Page(written("attacked")).viewer
    assert [axis["name"] for axis in data["axes"]] == ["round", "client"]
    assert scores_of(data) == rows_of(attacked.table("leakage"))
    assert len(scores_of(data)) == 4


def test_viewer_of_a_comparison_has_its_first_seed(comparison, written):
    page = Page(written("comparison"))
    assert [axis["name"] for axis in page.viewer["axes"]] == ["round", "client", "defense"]
    first = comparison.leakage[comparison.leakage["seed"] == comparison.seeds[0]]
    assert scores_of(page.viewer) == rows_of(first, "defense")
    assert "From the first of 2 seeds." in page.text


def test_pictures_are_the_pixels_and_each_is_there_once(attacked, written):
    data = Page(written("attacked")).viewer
    for step in data["steps"]:
        known, inferred = load_leaks(attacked.leaks(int(data["axes"][0]["values"][step["at"][0]])))
        for image, leak in zip(step["images"], (known, inferred), strict=True):
            for name, expected in (("true", leak.originals), ("rebuilt", leak.rebuilt)):
                levels = (expected[0, 0].clamp(0, 1) * 255).round().numpy()
                np.testing.assert_array_equal(pixels(data, image, name), levels)
    assert data["pixelated"]
    assert len(set(data["pictures"])) == len(data["pictures"])
    used = [place for step in data["steps"] for i in step["images"] for _, place in i["pictures"]]
    assert set(used) == set(range(len(data["pictures"])))
    assert len(data["pictures"]) < len(used)  # both attacks have the same true image


def test_viewer_is_hidden_until_its_script_runs(written):
    page = Page(written("attacked"))
    (viewer,) = [attrs for attrs in page.all("div") if attrs.get("id") == "viewer"]
    assert "hidden" in viewer
    assert "figure-images" in page.ids  # which shows the same


def test_page_without_attacks_has_no_viewer(written):
    page = Page(written("plain"))
    assert page.scripts == []
    assert "viewer" not in page.ids


def test_no_tag_begins_or_ends_in_the_data(attacked):
    viewer = viewer_of({"</script><script>": attacked, "other": attacked})
    assert "<" not in viewer.json
    assert viewer.data["axes"][2]["values"] == ["</script><script>", "other"]


@pytest.fixture
def made(attacked, tmp_path):
    """Function that makes a run of updates with these PSNRs, by round."""

    def make(rounds):
        run = RunFolder.create(tmp_path / "run", attacked.scenario)
        (leak, _) = load_leaks(attacked.leaks(1))
        for number, scores in rounds.items():
            rows = tuple(
                replace(leak.rows[0], round=number, image=image, psnr=psnr, aligned_psnr=psnr)
                for image, psnr in enumerate(scores)
            )
            many = [images.repeat(len(rows), 1, 1, 1) for images in (leak.originals, leak.rebuilt)]
            # No two reconstructions are equal, so none is saved by being there already.
            many[1][:, 0, 0, :2] = np.random.default_rng(number).random(2)[0]
            save_leaks(
                run.leaks(number), [replace(leak, rows=rows, originals=many[0], rebuilt=many[1])]
            )
            run.append("leakage", rows)
        return run

    return make


def test_many_updates_are_left_out_and_it_says_so(made):
    rounds = {number: [10.0] for number in range(1, 2 * MOST_UPDATES)}
    last = max(rounds)
    rounds |= {last: [60.0], last - 1: [5.0]}
    viewer = viewer_of({"run": made(rounds)})
    shown = viewer.data["axes"][0]["values"]
    assert len(viewer.data["steps"]) == len(shown) == MOST_UPDATES
    assert {str(last), str(last - 1), "1", "2"} <= set(shown)
    assert f"{MOST_UPDATES} of {last} attacked updates: those with the best" in viewer.note
    assert sum(map(len, viewer.data["pictures"])) < MOST_CHARACTERS


def test_large_images_are_fewer(made, monkeypatch):
    run = made({number: [10.0] for number in range(1, 9)})
    monkeypatch.setattr("fedlab.report.page.viewer.MOST_CHARACTERS", 500)
    viewer = viewer_of({"run": run})
    assert 1 <= len(viewer.data["steps"]) < 8
    assert "of 8 attacked updates" in viewer.note


def test_of_a_large_batch_the_telling_images_are_shown(made):
    scores = [20.0, 9.0, math.nan, 30.0, *[15.0] * 8]
    viewer = viewer_of({"run": made({1: scores})})
    (step,) = viewer.data["steps"]
    assert [image["place"] for image in step["images"]] == [
        f"{name} of 12" for name in ("best", "median", "worst")
    ]
    assert [image["psnr"] for image in step["images"]] == ["30.0 dB", "15.0 dB", "-"]
    assert "the best, the median and the worst image" in viewer.note
