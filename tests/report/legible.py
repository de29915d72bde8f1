"""Checks that a figure can be read: text and images are on the page and do not overlap."""

from itertools import combinations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text


def texts_of(figure):
    """All texts that are drawn, with their places in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    everything = [each for axes in figure.axes for each in (axes, *axes.child_axes)]
    found = [*figure.texts, *[text for axes in everything for text in _texts_of(axes)]]
    shown = [text for text in found if text.get_visible() and text.get_text().strip()]
    # The box behind a text is not the text.
    return [(text, Text.get_window_extent(text, renderer)) for text in shown]


def _texts_of(axes):
    yield from axes.texts
    if axes.get_legend():
        yield from axes.get_legend().get_texts()
    if axes.axison:
        yield from (axes.title, axes._left_title, axes._right_title)
        for axis in (axes.xaxis, axes.yaxis):
            yield axis.label
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            for tick in ticks:
                if low <= tick.get_loc() <= high:
                    yield from (tick.label1, tick.label2)


def images_of(figure):
    """Images that are drawn, with their places in pixels, in the order of drawing."""
    figure.draw(FigureCanvasAgg(figure).get_renderer())
    images = [image for axes in figure.axes for image in axes.images]
    return [(image, image.get_window_extent()) for image in images]


def pixels_of(figure):
    """Pixels of the images that are drawn, in the order of drawing."""
    return [np.asarray(image.get_array()) for image, _ in images_of(figure)]


def edges_of(figure):
    """Colours of the frames of the images, in the order of drawing."""
    patches = [patch for axes in figure.axes if axes.images for patch in axes.patches]
    return [to_hex(patch.get_edgecolor()) for patch in patches]


def assert_legible(figure):
    """Nothing is cut off by the page, and no two texts or images overlap."""
    texts = texts_of(figure)
    assert texts
    images = images_of(figure)
    for image, box in images:
        assert figure.bbox.padded(0.5).contains(*box.min), image
        assert figure.bbox.padded(0.5).contains(*box.max), image
        for text, place in texts:
            assert not box.padded(-1).overlaps(place.padded(-1)), text
    for (image, here), (_, there) in combinations(images, 2):
        assert not here.padded(-0.5).overlaps(there), image
    for text, box in texts:
        assert box.x0 >= figure.bbox.x0 - 0.5, text
        assert box.x1 <= figure.bbox.x1 + 0.5, text
        assert box.y0 >= figure.bbox.y0 - 0.5, text
        assert box.y1 <= figure.bbox.y1 + 0.5, text
    for (one, here), (other, there) in combinations(texts, 2):
        # Boxes hold room for descenders that a line may not have; a point of it is shared.
        apart = (
            here.x1 <= there.x0 + 1
            or there.x1 <= here.x0 + 1
            or here.y1 <= there.y0 + 1.5
            or there.y1 <= here.y0 + 1.5
        )
        assert apart, (one, other)


def said(figure):
    """Everything that is written, in one string."""
    return "\n".join(text.get_text() for text, _ in texts_of(figure))
