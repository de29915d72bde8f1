"""The parts of a reconstruction: a method, an objective, a prior, a label rule and a preset."""

from attacks.reconstruction import AttackSettings
from attacks.reconstruction.methods import optimise


def search_twice(problem, settings, options):
    """Searches two times and returns the better result."""
    found = [optimise(problem, settings, options) for _ in range(2)]
    return min(found, key=lambda result: result.cost)


def distance(target):
    """Sum of squared differences, over the squared norm of the captured update."""
    scale = sum(t.square().sum() for t in target.values())
    return lambda simulated: (
        sum((simulated[name] - t).square().sum() for name, t in target.items()) / scale
    )


def contrast(images, context):
    """Prefers images whose pixels are far from grey."""
    return -images.square().mean()


def smallest_rows(layer, num_images, probabilities):
    """The classes whose output rows have the smallest sums."""
    rows = layer.weight.sum(dim=1)
    return rows.argsort()[:num_images]


PRESET = AttackSettings(objective="l2", iterations=10, lr=0.2, source="the example package")
