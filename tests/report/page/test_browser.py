"""The page in a real browser without a network: it fits the screen, and its viewer steps."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from tests.report.page.pages import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:800px"></iframe><pre id="found"></pre>
<script>
const frame = document.getElementById("page");
const answer = (page, asked) => {{ {script} }};
frame.onload = () => {{
  const page = frame.contentDocument;
  const requests = frame.contentWindow.performance.getEntriesByType("resource");
  const asked = requests.map(each => each.name).filter(name => !name.startsWith("data:"));
  document.getElementById("found").textContent = JSON.stringify(answer(page, asked));
}};
frame.srcdoc = {text};
</script>"""

FITS = """
  const wide = [...page.querySelectorAll("main *")].filter(each =>
    !each.closest(".scroll, pre") && each.getBoundingClientRect().right > page.body.clientWidth + 1
  );
  const cut = [...page.querySelectorAll(".scroll")].filter(
    each => each.scrollWidth > each.clientWidth
  );
  const hidden = cut.filter(each => !getComputedStyle(each).backgroundImage.includes("gradient"));
  const images = [...page.images].filter(each => each.complete && each.naturalWidth > 0);
  const figures = images.filter(each => each.closest(".scroll"));
  const shown = each => {
    const { left, right, height } = each.getBoundingClientRect();
    return height > 0 && left >= 0 && right <= page.body.clientWidth;
  };
  const scales = figures.map(each => each.getBoundingClientRect().width / each.naturalWidth);
  return {
    width: page.documentElement.scrollWidth, wide: wide.map(each => each.tagName),
    images: images.length, viewed: page.querySelectorAll("#viewer img").length,
    scale: Math.min(...scales), asked, cut: cut.length, hidden: hidden.length,
    titles: [...page.querySelectorAll("figure > h3")].filter(shown).length,
    legends: [...page.querySelectorAll("figure > .legend li")].filter(shown).length
  };
"""

STEPS = """
  const viewer = page.getElementById("viewer");
  const seen = () => ({
    at: [...viewer.querySelectorAll("select")].map(each => each.value),
    status: page.getElementById("viewer-status").textContent,
    scores: [...viewer.querySelectorAll("strong")].map(each => each.textContent),
    pictures: [...viewer.querySelectorAll("img")].map(each => each.src)
  });
  const press = (key, shiftKey = false, where = viewer) =>
    where.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
  const button = (name) => viewer.querySelector(`button[aria-label="${name}"]`);
  const after = { start: seen(), hidden: viewer.hidden };
  const choose = viewer.querySelector("select");
  const moves = {
    left: () => press("ArrowLeft"),
    right: () => press("ArrowRight"),
    onSelect: () => press("ArrowLeft", false, choose),
    previous: () => button("Previous round").click(),
    next: () => button("Next round").click(),
    choose: () => { choose.selectedIndex = 0; choose.dispatchEvent(new Event("change")); },
    defense: () => press("ArrowRight", true),
  };
  for (const [name, move] of Object.entries(moves)) { move(); after[name] = seen(); }
  after.labels = [...viewer.querySelectorAll("button")].map(each => each.ariaLabel);
  after.asked = asked;
  return after;
"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture
def answered(browser, tmp_path):
    """Function that runs a script in a page at some width, and returns its answer."""

    def answer(page, script, width):
        # The frame is what other scripts may run in; the page inside keeps its own policy.
        text = json.dumps(page).replace("</", "<\\/").replace("<!--", "<\\!--")
        wrapped = FRAME.format(width=width, text=text, script=script)
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
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
        assert found is not None
        return json.loads(unescape(found[1]))

    return answer


@pytest.mark.parametrize(
    ("width", "subject"), [(1280, "attacked"), (375, "attacked"), (375, "comparison")]
)
def test_no_part_of_the_page_is_wider_than_the_screen(answered, width, subject, written):
    # Folded tables count as well.
    page = (
        written(subject)
        .replace("<details>", "<details open>")
        .replace("<details class", "<details open class")
    )
    found = answered(page, FITS, width)
    assert found["width"] <= width
    assert found["wide"] == found["asked"] == []
    assert found["cut"] > 0 or width > 375
    assert found["hidden"] == 0  # a shadow says that there is more beyond the edge
    assert found["images"] == page.count("<img ") + found["viewed"]
    assert found["viewed"] > 0
    assert found["titles"] == page.count("<figure id=")
    assert found["legends"] == (page.count('class="sign"') if width == 375 else 0)
    assert page.count('class="sign"') > 0
    assert found["scale"] > 0.6  # of 130 dots an inch: letters of seven points stay legible


def test_viewer_steps_by_key_button_and_choice(answered, written):
    page = written("comparison")
    data = Page(page).viewer
    defenses = data["axes"][2]["values"]
    after = answered(page, STEPS, 375)
    assert after["hidden"] is False
    places = {
        "start": ["1", "0", defenses[0]],
        "left": ["1", "0", defenses[0]],  # there is no round before it
        "right": ["2", "0", defenses[0]],
        "onSelect": ["2", "0", defenses[0]],  # whose own keys these are
        "previous": ["1", "0", defenses[0]],
        "next": ["2", "0", defenses[0]],
        "choose": ["1", "0", defenses[0]],
        "defense": ["1", "0", defenses[1]],
    }
    for name, at in places.items():
        seen = after[name]
        assert seen["at"] == at
        values = [axis["values"].index(value) for axis, value in zip(data["axes"], at, strict=True)]
        (step,) = [step for step in data["steps"] if step["at"] == values]
        images = step["images"]
        assert seen["scores"] == [f"{image['psnr']}: {image['verdict']}" for image in images]
        assert seen["pictures"] == [
            f"data:image/png;base64,{data['pictures'][place]}"
            for image in images
            for _, place in image["pictures"]
        ]
        assert f"round {at[0]}, client 0, defense {at[2]}; " in seen["status"]
        leaking = sum(image["verdict"] == "leaks" for image in images)
        assert seen["status"].endswith(f"leak: {leaking} of {len(images)}")
    assert after["start"]["pictures"] != after["defense"]["pictures"]
    assert after["labels"] == [
        f"{word} {name}" for name in ("round", "client", "defense") for word in ("Previous", "Next")
    ]
    assert after["asked"] == []
