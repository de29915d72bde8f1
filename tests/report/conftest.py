"""Fixtures of the tests of tables, verdicts, figures and pages."""

import io

import pytest
from rich.console import Console


@pytest.fixture
def console_text():
    """Function that prints something on a wide terminal and returns the text."""

    def text(table):
        out = io.StringIO()
        Console(file=out, width=160).print(table)
        return out.getvalue()

    return text
