"""Jinja templates of tables, notebook views and the page; HTML is escaped."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: object) -> Markup:
    """Fill in a template of this folder.

    Args:
        template: File name, such as ``page.html``.
        **values: Variables of the template. Values with ``__html__`` are kept as they are, and all
            others are escaped.
    """
    return Markup(_environment().get_template(template).render(values))


def paragraphs(template: str, **values: object) -> list[tuple[str, str]]:
    """Fill in a template of paragraphs that each begin with a term and a colon.

    Args:
        template: File name, such as ``threat_model.txt``.
        **values: Variables of the template.

    Returns:
        Pairs of a term and one or more sentences about it, in reading order.
    """
    text = str(render(template, **values)).strip()
    parts = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [(term, sentences) for term, _, sentences in (p.partition(": ") for p in parts)]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fedlab.report.templates", ""),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["lines"] = _lines
    return environment


def _lines(value: object) -> Markup:
    """Escaped text with its line breaks kept."""
    if hasattr(value, "__html__"):
        return Markup(value)
    return Markup("<br>").join(str(value).strip("\n").split("\n"))
