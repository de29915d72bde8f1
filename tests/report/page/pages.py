"""Reading a page as a browser would."""

import base64
import hashlib
import json
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and the scripts and data of an HTML document.

    Its tags are balanced.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.scripts, self._open = [], [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
        elif self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def figures(self):
        """Images of figures, without the signs of their legends."""
        return [attrs for attrs in self.all("img") if attrs.get("class") != "sign"]

    @property
    def viewer(self):
        """The data of the viewer."""
        return json.loads(self.scripts[0])

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def asks_nobody(text):
    """Whether nothing in a text could make a browser ask anybody for anything."""
    page = Page(text)
    assert_known_scripts(page)
    for tag, attrs in page.tags:
        assert tag not in {"iframe", "object", "embed"}
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert "url(" not in (value or "")
            if name in {"src", "href", "srcset", "action", "poster", "data"}:
                assert value.startswith(("data:", "#"))
    assert "://" not in text
    assert "@import" not in text
    return True


def assert_known_scripts(page):
    """A page has no script, or data and the one script that its policy admits by its digest."""
    kinds = [attrs.get("type") for attrs in page.all("script")]
    assert kinds in ([], ["application/json", None])
    metas = [meta.get("content", "") for meta in page.all("meta")]
    admitted = [p for policy in metas for p in policy.split("; ") if p.startswith("script-src")]
    assert len(admitted) == len(kinds) // 2
    for script in page.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert admitted == [f"script-src 'sha256-{digest}'"]
        for word in ("fetch", "XMLHttpRequest", "import", "Socket", "EventSource", "Beacon"):
            assert word not in script
