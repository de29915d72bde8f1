"""Plug-ins of the adversary and of metrics, as a package of somebody else would have them."""

import torch

from attacks.reconstruction import AttackSettings, Reconstruction
from fedlab.metrics.metric import metric

QUICK = AttackSettings(iterations=3, objective="l2", tv=0.0, source="this test")


def slower():
    """A preset that is made by a function."""
    return AttackSettings(iterations=5)


def broken_preset():
    return {"iterations": 3}


def grey(problem, settings, options):
    """A method that ignores the payload."""
    count, shape = problem.knowledge.num_images, problem.knowledge.image_shape
    labels = problem.knowledge.labels
    if labels is None:
        labels = problem.infer_labels(settings.label_rule, options.generator)
    return Reconstruction(torch.full((count, *shape), 0.5), labels)


def nothing(problem, settings, options):
    """A method that returns something else."""
    return


def largest_error(target):
    """An objective: the largest difference of any entry."""

    def cost(simulated):
        return torch.stack([(simulated[n] - t).abs().max() for n, t in target.items()]).max()

    return cost


def failing_objective(target):
    def cost(simulated):
        raise KeyError("conv9")

    return cost


def brightness(images, context):
    """A prior: images of the mean brightness."""
    return images.mean().square()


def bright_features(images, context):
    """A prior on what the network computes."""
    assert context.problem.payload.kind == "gradient"
    return context.inputs.features.square().mean()


def always_three(layer, num_images, probabilities):
    """A label rule."""
    return torch.full((num_images,), 3)


def too_few(layer, num_images, probabilities):
    return torch.zeros(0, dtype=torch.int64)


@metric("l1", label="L1 distance", higher_is_better=False)
def l1(truth, rebuilt):
    """Mean absolute difference of pixels."""
    return (truth - rebuilt).abs().flatten(1).mean(1)


@metric("wrong")
def wrong_metric(truth, rebuilt):
    return torch.zeros(())


def plain_function(truth, rebuilt):
    return truth.flatten(1).mean(1)
