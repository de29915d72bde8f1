"""HTML view of a reconstruction for notebooks: images, facts about the attack, and its cost curve.

Text has no colour of its own, so that it is readable in light and dark notebooks.
"""

import math
from html import escape
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attacks.png import data_uri
from attacks.reconstruction.components import name_of

if TYPE_CHECKING:
    from attacks.reconstruction.result import Reconstruction

MOST = 16
"""Largest number of images shown."""

_WIDTH, _HEIGHT = 260, 64
_POINTS = 200


def reconstruction_html(result: "Reconstruction") -> str:
    """Return HTML that loads nothing from a network."""
    images = [
        image_html(image, _label(result.labels, place), alt=f"rebuilt image {place}")
        for place, image in enumerate(result.images[:MOST])
    ]
    count = len(result.images)
    title = f"{count} rebuilt image{'s' * (count != 1)}" + f", first {MOST}" * (count > MOST)
    known = "given" if result.labels_known else "inferred"
    facts = (
        f"labels {known}; {escape(name_of(result.attack.method))}, "
        f"{escape(name_of(result.attack.objective))} objective; "
        f"cost {result.cost:.3g} in {len(result.costs)} iterations, best of "
        f"{result.attack.restarts} restart{'s' * (result.attack.restarts > 1)}; "
        f"{result.seconds:.1f} s"
    )
    source = f"<p><small>{escape(result.attack.source)}</small></p>" if result.attack.source else ""
    return (
        f"<div><p><strong>{title}</strong><br>{facts}</p>"
        f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(images)}</div>'
        f"{_course(result.costs)}{source}</div>"
    )


def image_html(image: Tensor, text: str = "", *, alt: str, side: int = 72) -> str:
    """Return the HTML of an image with a caption; small images keep sharp pixels.

    Args:
        image: float ``[1 or 3, height, width]``, pixels in [0, 1].
        text: Caption below the image.
        alt: Alternative text for screen readers.
        side: Width on the page in pixels.
    """
    smooth = "auto" if max(image.shape[1:]) > side else "pixelated"
    caption = f"<figcaption><small>{escape(text)}</small></figcaption>" if text else ""
    return (
        f'<figure style="margin:0;text-align:center"><img src="{data_uri(image)}" '
        f'alt="{escape(alt)}" width="{side}" style="image-rendering:{smooth};display:block">'
        f"{caption}</figure>"
    )


def _label(labels: Tensor, place: int) -> str:
    """Class of an image, or its most likely class with the probability."""
    label = labels[place]
    if label.ndim == 0:
        return f"label {int(label)}"
    best = int(label.argmax())
    return f"label {best} ({float(label[best]):.2f})"


def _course(costs: Tensor) -> str:
    """Curve of the matching cost over the iterations, on a logarithmic scale."""
    values = [float(value) for value in _thinned(costs)]
    shown = [(place, math.log10(v)) for place, v in enumerate(values) if 0 < v < math.inf]
    if len(shown) < 2:
        return ""
    low, high = min(y for _, y in shown), max(y for _, y in shown)
    points = " ".join(
        f"{4 + (_WIDTH - 8) * x / (len(values) - 1):.1f},"
        f"{4 + (_HEIGHT - 8) * (high - y) / ((high - low) or 1):.1f}"
        for x, y in shown
    )
    text = f"matching cost from {10 ** shown[0][1]:.2g} to {10 ** shown[-1][1]:.2g}"
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{text}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
        f"<p><small>{text} over {len(costs)} iterations, logarithmic</small></p>"
    )


def _thinned(costs: Tensor) -> Tensor:
    """At most ``_POINTS`` costs, evenly spaced."""
    if len(costs) <= _POINTS:
        return costs
    return costs[torch.linspace(0, len(costs) - 1, _POINTS).round().long()]
