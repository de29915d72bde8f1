"""The page in a real browser without a network: nothing is wider than the screen."""

import json
import re
import shutil
import subprocess

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:800px"></iframe><pre id="found"></pre>
<script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const page = frame.contentDocument;
  const wide = [...page.querySelectorAll("main *")].filter(
    each => !each.closest(".scroll, pre") && each.getBoundingClientRect().right > {width} + 1
  );
  const images = [...page.images].filter(each => each.complete && each.naturalWidth > 0);
  const figures = images.filter(each => each.closest("figure"));
  const scales = figures.map(each => each.getBoundingClientRect().width / each.naturalWidth);
  document.getElementById("found").textContent = JSON.stringify([
    page.documentElement.scrollWidth, wide.map(each => each.tagName).join(" "), images.length,
    Math.min(...scales)
  ]);
}};
frame.srcdoc = {text};
</script>"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.mark.parametrize(
    ("width", "subject"), [(1280, "attacked"), (375, "attacked"), (375, "comparison")]
)
def test_no_part_of_the_page_is_wider_than_the_screen(browser, width, subject, tmp_path, written):
    # Folded tables count as well.
    page = (
        written(subject)
        .replace("<details>", "<details open>")
        .replace("<details class", "<details open class")
    )
    # The frame is what scripts may run in; the page inside keeps its own policy.
    wrapped = FRAME.format(width=width, text=json.dumps(page).replace("</", "<\\/"))
    (tmp_path / "frame.html").write_text(wrapped, encoding="utf-8")
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900",
        "--virtual-time-budget=5000",
        "--dump-dom",
        (tmp_path / "frame.html").as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<pre id="found">\[(\d+),"(.*?)",(\d+),([\d.]+)\]</pre>', shown)
    assert found is not None
    assert int(found[1]) <= width
    assert found[2] == ""
    assert int(found[3]) == page.count("<img ")
    assert float(found[4]) > 0.6  # of 130 dots an inch: letters of seven points stay legible
