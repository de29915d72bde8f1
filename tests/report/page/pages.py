"""Reading a page as a browser would."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, and the text, of an HTML document whose tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._open = [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def asks_nobody(text):
    """Whether nothing in a text could make a browser ask anybody for anything."""
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in {"script", "iframe", "object", "embed"}
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert "url(" not in (value or "")
            if name in {"src", "href", "srcset", "action", "poster", "data"}:
                assert value.startswith(("data:", "#"))
    assert "://" not in text
    assert "@import" not in text
    return True
