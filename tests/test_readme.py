"""The README is short, warns of the other fedlab, and its links and those of the manual lead on."""

import re

import pytest

from tests.commands import ROOT

README = (ROOT / "README.md").read_text("utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_other_distribution_is_named_before_the_install_line():
    assert README.index("installs another project") < README.index("pip install -c")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_pictures_are_there(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))
    for link in (each for each in links if "://" not in each):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
