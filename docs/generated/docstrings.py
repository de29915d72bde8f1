"""Reading docstrings of Google's and NumPy's form, for the reference."""

import inspect
import re

_GOOGLE = re.compile(r"    \*{0,2}(\w+)(?: \([^)]*\))?: ?(.*)")
_NUMPY = re.compile(r"(\w+) ?:.*")


def paragraphs(docstring: str | None) -> list[str]:
    """The paragraphs of a docstring before its first section, each in one line."""
    found = []
    for block in inspect.cleandoc(docstring or "").split("\n\n"):
        if re.match(r"[A-Z]\w+:\n|[A-Z]\w+\n---", block):
            break
        found.append(" ".join(block.split()))
    return found


def entries(docstring: str | None, section: str) -> dict[str, str]:
    """The texts of a section by name, each in one line.

    Args:
        docstring: Docstring of Google's form (``Args:``) or NumPy's (``Parameters``, underlined).
        section: Name of the section.
    """
    text = inspect.cleandoc(docstring or "")
    google = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", text, re.M)
    numpy = re.search(rf"^{section}\n-+\n((?:.+\n?)+)", text, re.M)
    match, first = (google, _GOOGLE) if google else (numpy, _NUMPY)
    found: dict[str, list[str]] = {}
    for line in match[1].splitlines() if match else ():
        if start := first.fullmatch(line):
            found[start[1]] = [start[2]] if google else []
        elif found:
            found[list(found)[-1]].append(line.strip())
    return {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}
