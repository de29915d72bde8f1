"""How objects are shown: a registry that ``report/`` fills, so that data never imports its picture.

The registry holds import paths and nothing is imported before it is shown. An installed package
may add views of its own through the entry point group ``fedlab.views``, as pandas finds plotting
backends: each entry point is a mapping like ``VIEWS`` in ``fedlab/report/register.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUP = "fedlab.views"
BUILT_IN = "fedlab.report.register:VIEWS"
"""Used as well where the package runs from a checkout, without its metadata."""


def show(thing: object, view: str, **options: Any) -> Any:
    """Show an object by a view that is registered for its class or a base class of it.

    Args:
        thing: What to show.
        view: Name of the view, such as ``plot``, ``picture`` or ``html``.
        **options: Keyword arguments of the view.

    Raises:
        BadInput: If no such view is registered.
    """
    views = _views()
    for kind in type(thing).__mro__:
        path = views.get((f"{kind.__module__}:{kind.__qualname__}", view))
        if path is not None:
            return _load(path)(thing, **options)
    raise BadInput(f"no view {view!r} is registered for {type(thing).__name__}")


class Viewable:
    """An object with pictures: a figure, an image file, and HTML in a notebook.

    Which function draws what is registered in ``report/``; a class says nothing about it.
    """

    def plot(self, **options: Any) -> Figure:
        """The object's main figure.

        Args:
            **options: Keyword arguments of the registered view.

        Raises:
            ValueError: If there is nothing to draw yet.
        """
        figure: Figure = show(self, "plot", **options)
        return figure

    def picture(self, **options: Any) -> Figure:
        """The object's images as one figure; the main figure for what holds no images.

        Raises:
            ValueError: If there is nothing to draw yet.
        """
        figure: Figure = show(self, "picture", **options)
        return figure

    def save(self, path: Path | str, **options: Any) -> Path:
        """Write the main figure to a file, whole or not at all.

        Args:
            path: The file; its ending, such as ``.png``, ``.svg`` or ``.pdf``, gives the format.
            **options: Keyword arguments of the registered view.

        Returns:
            The file.

        Raises:
            BadInput: If the file cannot be written, or its format is unknown.
        """
        content: bytes = show(self.plot(**options), "bytes", format=Path(path).suffix[1:] or "png")
        write_atomically(Path(path), content)
        return Path(path)

    def _repr_html_(self) -> str:
        text: str = show(self, "html")
        return text


@cache
def _views() -> Mapping[tuple[str, str], str]:
    """Import paths of all views by class and view; those of installed packages win."""
    views: dict[tuple[str, str], str] = dict(_load(BUILT_IN))
    for point in entry_points(group=GROUP):
        if point.value != BUILT_IN:
            views.update(point.load())
    return views


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
