"""Controls for a federation in a notebook: defenses by slider, the next round by a button."""

import math
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.foreign_code import described
from fedlab.defenses.base import DEFENSES
from fedlab.report.figures.sheet import image_tag
from fedlab.simulation.federation import Federation

DECADES = 2
"""Powers of ten on each side of a setting's default that its slider reaches."""

ABOVE = 8
"""Factor of a whole number's default that its slider reaches."""

HIDDEN = frozenset({"name", "rounds", "clients"})
"""Settings of every defense that have controls of their own or none."""


def controls(federation: Federation) -> Any:
    """Sliders and buttons that call ``toggle`` and ``step``, with the pictures of the run below.

    Returns:
        An ``ipywidgets.VBox``, which shows itself in a notebook.

    Raises:
        BadInput: If ipywidgets is not installed.
    """
    try:
        import ipywidgets as widgets
    except ImportError as error:
        raise BadInput(
            'controls need ipywidgets: pip install "fedlab-privacy[notebooks]"'
        ) from error

    defense = widgets.Dropdown(options=sorted(DEFENSES.builtin), description="defense")
    clients = widgets.Text("all", description="clients")
    rounds = widgets.Text("all", description="rounds left")
    settings = widgets.VBox()
    switch_on, switch_off = (widgets.Button(description=f"switch {way}") for way in ("on", "off"))
    forward = widgets.Button(description="next round", button_style="primary")
    said, pictures = widgets.HTML(), widgets.HTML()

    def choose(_: object = None) -> None:
        plugin = DEFENSES.get(defense.value)
        fields = plugin.model_fields.items()
        shown = [_slider(widgets, n, f.default) for n, f in fields if n not in HIDDEN]
        settings.children = [each for each in shown if each is not None]

    def switch(on: bool) -> str:
        given = {each.description: each.value for each in settings.children} if on else {}
        federation.toggle(defense.value, on=on, clients=clients.value, rounds=rounds.value, **given)
        return (
            f"{defense.value} is {'on' if on else 'off'} for clients {clients.value} in rounds "
            f"{rounds.value} of those that are left"
        )

    def step() -> str:
        found = str(federation.step())
        figures = [federation.timeline()]
        if federation.folder.leak_files:
            figures.insert(0, federation.picture())
        pictures.value = "".join(map(image_tag, figures))
        return found

    def answer(call: Callable[[], str]) -> Callable[[object], None]:
        def clicked(_: object) -> None:
            try:
                said.value = escape(call())
            except (BadInput, RunFailed) as error:
                said.value = f"<b>{escape(str(error))}</b>"
            except Exception as error:  # a notebook shows nothing of what a button raises
                said.value = f"<b>{escape(described(error))}</b>"

        return clicked

    defense.observe(choose, names="value")
    switch_on.on_click(answer(lambda: switch(True)))
    switch_off.on_click(answer(lambda: switch(False)))
    forward.on_click(answer(step))
    choose()
    buttons = widgets.HBox([switch_on, switch_off, forward])
    return widgets.VBox([defense, settings, clients, rounds, buttons, said, pictures])


def _slider(widgets: Any, name: str, default: object) -> Any:
    """The control of a setting; ``None`` for one that is no number, choice of two, or has none."""
    style: Mapping[str, Any] = {"description": name, "style": {"description_width": "initial"}}
    if isinstance(default, bool):
        return widgets.Checkbox(default, **style)
    if isinstance(default, int) and default > 0:
        return widgets.IntSlider(default, 1, ABOVE * default, **style)
    if isinstance(default, float) and 0 < default < math.inf:
        middle = math.log10(default)
        ends = {"min": middle - DECADES, "max": middle + DECADES}
        return widgets.FloatLogSlider(default, **ends, readout_format=".3g", **style)
    return None
