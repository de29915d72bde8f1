"""The pages of the manual, and the commands and snippets on them."""

import re

from tests.commands import ROOT

PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
"""Text of each page by its path from the root of the repository."""


def blocks(page, language=""):
    """The fenced blocks of a page in a language, each as one text without its indentation."""
    found = re.findall(r"^( *)```(\S*)\n(.*?)^ *```$", PAGES[page], re.MULTILINE | re.DOTALL)
    return [
        re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        for indent, written, text in found
        if written == language
    ]


def lines(page):
    """The command lines of a page: those of its blocks, and those of its tables of questions.

    A table whose heading is "command, after `fedlab x`" has the rest of a command in each row.
    """
    text = "\n".join(blocks(page)).replace("\\\n", " ")
    whole = [re.sub(r"\s#\s.*", "", each).strip() for each in text.splitlines()]
    found = [part.strip() for each in whole for part in each.split("&&") if part.strip()]
    for table in re.findall(r"^\|.*command, after.*\n(?:\|.*\n)+", PAGES[page], re.MULTILINE):
        first, _, *rows = table.splitlines()
        place = [cell.strip() for cell in first.split("|")].index(
            next(cell.strip() for cell in first.split("|") if "command, after" in cell)
        )
        start = re.search(r"after `(.*)`", first)[1]
        found += [f"{start} {row.split('|')[place].strip().strip('`')}" for row in rows]
    return found
