"""Views of a comparison: each passes the comparison's tables or runs to the figure it names."""

from collections.abc import Sequence

from fedlab.comparison.comparison import Comparison
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.frontier import frontier_figure
from fedlab.report.figures.image_grid import wall_figure
from fedlab.report.figures.poisoning_matrix import poisoning_matrix_figure
from fedlab.report.figures.sheet import Picture
from fedlab.report.figures.sweep import accuracy_figure, epsilon_figure, sweep_figure


def frontier(comparison: Comparison) -> Picture:
    """Draw accuracy against leakage, one mark for each defense."""
    return frontier_figure(comparison.frame)


def chance(comparison: Comparison) -> Picture:
    """Draw the PSNR of all rebuilt images beside chance, by defense."""
    return chance_figure(comparison.leakage)


def poisoning(comparison: Comparison) -> Picture:
    """Draw the attack success rate by defense and aggregation rule."""
    return poisoning_matrix_figure(comparison.frame)


def swept(comparison: Comparison) -> Picture:
    """Draw leakage, accuracy and epsilon against the swept settings."""
    return sweep_figure(comparison.frame)


def spending(comparison: Comparison) -> Picture:
    """Draw leakage against epsilon, by defense."""
    return epsilon_figure(comparison.frame)


def tradeoff(comparison: Comparison) -> Picture:
    """Draw the smallest leakage that each defense reaches at an accuracy, by accuracy."""
    return accuracy_figure(comparison.frame)


def wall(
    comparison: Comparison,
    *,
    client: int | None = None,
    image: int = 0,
    rounds: Sequence[int] | None = None,
) -> Picture:
    """Draw one true image and its reconstructions, with the first rule, setting and seed."""
    first = comparison.rules[0], comparison.points[0], comparison.seeds[0]
    runs = {
        run.defense: run.folder
        for run in comparison.runs
        if (run.rule, run.grid, run.seed) == first
    }
    return wall_figure(runs, client=client, image=image, rounds=rounds)
