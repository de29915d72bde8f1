"""Registry of the functions that draw an object, so that data classes import no drawing code.

The registry maps a class and the name of a view to the import path of a function, and imports the
function when an object is first shown. ``fedlab/report/register.py`` lists the built-in views. An
installed package adds or replaces views through the entry point group ``fedlab.views``: each entry
point names a mapping of the same form.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlab.core.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUP = "fedlab.views"
BUILT_IN = "fedlab.report.register:VIEWS"
"""Built-in views; read directly, so that they are found in a checkout without metadata too."""

_LOGGER = logging.getLogger(__name__)


def show(thing: object, view: str, *args: Any, **options: Any) -> Any:
    """Show an object by the view that is registered for its class or the nearest base class.

    Args:
        thing: Object to show.
        view: Name of the view, such as ``plot``, ``picture`` or ``html``.
        *args: Positional arguments of the view, after the object.
        **options: Keyword arguments of the view.

    Returns:
        Result of the view: a figure, a table, or a text.

    Raises:
        BadInput: If no such view is registered.
    """
    views = _views()
    for kind in type(thing).__mro__:
        path = views.get((f"{kind.__module__}:{kind.__qualname__}", view))
        if path is not None:
            return _load(path)(thing, *args, **options)
    raise BadInput(f"no view {view!r} is registered for {type(thing).__name__}")


class Viewable:
    """An object that can be drawn, saved as an image file, and shown in a notebook.

    The registry says which function draws it; the class itself holds data only.
    """

    def plot(self, *args: Any, **options: Any) -> Figure:
        """Draw the main figure of the object.

        Args:
            *args: Positional arguments of the registered view.
            **options: Keyword arguments of the registered view.

        Returns:
            A matplotlib figure, which displays itself in a notebook.

        Raises:
            ValueError: If there is nothing to draw yet.
        """
        figure: Figure = show(self, "plot", *args, **options)
        return figure

    def picture(self, *args: Any, **options: Any) -> Figure:
        """Draw the images that the object contains; without images, draw the main figure.

        Raises:
            ValueError: If there is nothing to draw yet.
        """
        figure: Figure = show(self, "picture", *args, **options)
        return figure

    def save(self, path: Path | str, *args: Any, **options: Any) -> Path:
        """Write the main figure to a file. A failed write leaves no partial file behind.

        ``plot().save(path, title=False)`` leaves the title out, as papers want it.

        Args:
            path: File name; its ending selects the format: ``.png``, ``.svg``, ``.pdf`` or another
                that matplotlib writes. Without an ending the format is PNG.
            *args: Positional arguments of ``plot``.
            **options: Keyword arguments of ``plot``.

        Returns:
            Path of the file.

        Raises:
            BadInput: If the file cannot be written, or its format is unknown.
            ValueError: If there is nothing to draw yet.
        """
        figure = self.plot(*args, **options)
        try:
            show(figure, "file", Path(path))
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error}") from error
        return Path(path)

    def _repr_html_(self) -> str:
        text: str = show(self, "html")
        return text


def register_in_notebook() -> None:
    """Let notebooks show results of ``attacks`` and, of bad input and failed runs, the sentence.

    IPython finds the class of a result by its name, so nothing is imported; elsewhere nothing
    happens. A hook that someone else set for exceptions keeps what it handles.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        return
    formatter = shell.display_formatter.formatters["text/html"]
    kind = ("attacks.reconstruction.result", "Reconstruction")
    formatter.for_type_by_name(*kind, lambda result: show(result, "html"))
    theirs, their_hook = shell.custom_exceptions, shell.CustomTB

    def show_sentence(
        shell: Any, kind: type[BaseException], error: BaseException, trace: Any, **offset: Any
    ) -> Any:
        if isinstance(error, theirs):
            return their_hook(kind, error, trace, **offset)
        # Whoever switched the debugger on with %pdb wants to see the code.
        whole = shell.call_pdb
        shell.showtraceback((kind, error, trace), exception_only=not whole, **offset)
        return None

    shell.set_custom_exc((*theirs, BadInput, RunFailed), show_sentence)


@cache
def _views() -> Mapping[tuple[str, str], str]:
    """Import paths of all views by class and view; installed packages replace built-in ones."""
    views: dict[tuple[str, str], str] = dict(_load(BUILT_IN))
    for point in metadata.entry_points(group=GROUP):
        if point.value == BUILT_IN:
            continue
        try:
            views.update(point.load())
        except Exception as error:  # a broken package must not take our own figures away
            _LOGGER.warning("the views of %s cannot be loaded: %s", point.value, error)
    return views


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
