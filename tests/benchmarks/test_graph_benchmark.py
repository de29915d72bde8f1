"""The energy that the benchmark of graphs compares, and the figures of its outlines."""

import pytest
import torch

from attacks.graphs.potts import potts_energy
from attacks.graphs.regions import grid_graph
from attacks.graphs.superpixels import colour_costs
from benchmarks import outlines, superpixels
from fedlab.metrics.verdict import LEAKS, NOT_SHOWN
from fedlab.results.rows import LeakageRow


def test_energy_on_pixels_is_that_of_their_graph():
    draws = torch.Generator().manual_seed(0)
    image, colours = torch.rand(3, 7, 9, generator=draws), torch.rand(4, 3, generator=draws)
    labels = torch.randint(4, (7, 9), generator=draws)
    costs = colour_costs(image.flatten(1).T, colours).unsqueeze(1)
    graph = potts_energy(costs, labels.view(-1, 1), grid_graph(7, 9), superpixels.SMOOTHNESS)
    assert superpixels._energy(image, colours, labels) == pytest.approx(float(graph), rel=1e-6)


def row(verdict, **values):
    plain = {"round": 1, "client": 0, "role": "leaking", "defenses": "", "preset": "fast"}
    plain |= {"image": 0, "target": "original", "known_labels": True, "setting": "diagnostic"}
    return LeakageRow(**plain, verdict=verdict, **values)


def test_outlines_count_hidden_images_alone():
    hidden = {"psnr": 12.0, "chance_psnr": 14.0}
    rows = [
        row(NOT_SHOWN, extra={"outline": 0.5, "chance_outline": 0.2}, **hidden),
        row(NOT_SHOWN, extra={"outline": 0.1, "chance_outline": 0.3}, **hidden),
        row(LEAKS, extra={"outline": 1.0, "chance_outline": 0.2}),
    ]
    found = {figure.name: list(figure.values) for figure in outlines._figures("open", rows)}
    assert found["open: not shown"] == [1, 1, 0]
    assert found["open, not shown: outline above chance"] == pytest.approx([0.3, -0.2])
    assert found["open, not shown: share above chance"] == [0.5]
    assert found["open, not shown: PSNR above chance"] == [-2, -2]
    (_, none) = outlines._figures("open", rows[2:])
    assert none.failure == "PSNR shows all images"
