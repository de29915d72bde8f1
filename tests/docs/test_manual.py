"""The manual is built without a warning, has every page, and loads nothing from the network."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import fedlab
from tests.commands import ROOT
from tests.docs.pages import PAGES

pytest.importorskip("sphinx", reason="the extra docs is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("manual")]

LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
"""Attributes whose address a browser loads by itself."""

SHOWN_ONLY = {"canonical", "next", "prev", "index", "search", "author"}
"""Relations of a link that no browser loads."""


class Loaded(HTMLParser):
    """The addresses that a page loads."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in LOADING and values.get("rel") not in SHOWN_ONLY:
            self.found.append(values.get(LOADING[tag]) or "")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of the built manual."""
    folder = tmp_path_factory.mktemp("manual")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*command, "--conf-dir", "docs", ".", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_and_notebook_is_there(built):
    pages = {each for each in PAGES if each.startswith("docs/") and "hub-app" not in each}
    pages |= {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    missing = {p for p in pages if not (built / re.sub(r"\.\w+$", ".html", p)).is_file()}
    assert not missing


def test_nothing_is_loaded_from_the_network(built):
    outside = {
        (str(page.relative_to(built)), address)
        for page in built.rglob("*.html")
        for address in Loaded(page.read_text("utf-8")).found
        if re.match(r"(https?:)?//", address)
    }
    assert not outside
    for style in built.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text("utf-8"))


def test_generated_parts_and_formulas_are_in_the_pages(built):
    keys = (built / "docs/reference/scenario-keys.html").read_text("utf-8")
    assert 'id="key-training.lr"' in keys
    assert "generated:" not in keys
    api = (built / "docs/reference/api.html").read_text("utf-8")
    assert all(f'id="fedlab.{name}"' in api for name in fedlab.__all__)
    assert "<math" in (built / "docs/explanation/ceiling.html").read_text("utf-8")
