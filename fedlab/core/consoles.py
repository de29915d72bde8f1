"""The consoles of all commands: results on standard output, errors on standard error."""

import io
import sys

from rich.console import Console

# Pipes and log files have no width of their own; 110 columns fit the tables.
# Names may contain brackets, which must not be read as markup.
console = Console(width=None if sys.stdout.isatty() else 110, markup=False, emoji=False)
complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def replace_unknown_letters() -> None:
    """Write a question mark for letters that the encoding of an output lacks, such as cp1252."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def printable(text: str) -> str:
    """A text in which control characters, which could steer a terminal, are written as escapes."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text
    )
