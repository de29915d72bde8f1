"""Sphinx extension: puts generated Markdown into pages, and draws formulas as MathML."""

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

from docs.generated import columns, commands, keys, plugins

PARTS = {
    "keys": keys.markdown,
    "plugins": plugins.markdown,
    "columns": columns.markdown,
    "commands": commands.markdown,
}
"""Texts that take the place of the line after ``<!-- generated: keys -->`` on a page."""

_PLACE = re.compile(r"^<!-- generated: (\w+) -->\n.*$", re.MULTILINE)


def fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the places of a page by the texts that are generated for them."""
    source[0] = _PLACE.sub(lambda place: PARTS[place[1]](), source[0])


def draw_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line as MathML, which browsers draw without any script."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def draw_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on lines of its own as MathML."""
    self.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the extension."""
    app.add_object_type("key", "key", "pair: %s; scenario key", objname="scenario key")
    app.add_html_math_renderer("mathml", (draw_inline, None), (draw_block, None))
    app.connect("source-read", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
