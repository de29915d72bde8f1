"""Checks that a figure can be read: text and images are on the page and do not overlap."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text


def texts_of(figure):
    """All texts that are drawn, with their places in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # places everything, and that is all that is looked at
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
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return _images_of(figure)


def _images_of(figure):
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
    images = _images_of(figure)
    written, drawn = _corners(texts), _corners(images)
    low, high = figure.bbox.min - 0.5, figure.bbox.max + 0.5
    for (part, _), corners in zip([*texts, *images], [*written, *drawn], strict=True):
        assert (corners[:2] >= low).all(), part
        assert (corners[2:] <= high).all(), part
    for index, (image, _) in enumerate(images):
        over = _overlapping(drawn[index], written, (2, 2))
        assert not over.any(), (image, [texts[place] for place in over.nonzero()[0]])
        assert not _overlapping(drawn[index], drawn[index + 1 :], (0.5, 0.5)).any(), image
    for index, (text, _) in enumerate(texts):
        # Boxes hold room for descenders that a line may not have; a point of it is shared.
        over = _overlapping(written[index], written[index + 1 :], (1, 1.5))
        assert not over.any(), (text, [texts[index + 1 + place] for place in over.nonzero()[0]])


def _corners(parts):
    """Left, lower, right and upper edge of each part."""
    return np.array([[*box.min, *box.max] for _, box in parts]).reshape(-1, 4)


def _overlapping(one, others, allowed):
    """Which boxes share more than so many pixels across and up with one."""
    shared = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    return (shared > allowed).all(1)


def said(figure):
    """Everything that is written, in one string."""
    return "\n".join(text.get_text() for text, _ in texts_of(figure))
