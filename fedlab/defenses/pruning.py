"""Magnitude pruning: of each tensor of an update only the largest entries are sent.

Zhu et al., "Deep Leakage from Gradients" (arXiv 1906.08935, section 5.2), gives it as a defense.
An attacker sees what was pruned, and compares nothing but the rest.
"""

from torch import Tensor

from fedlab.defenses.pipeline import ClientContext, Pipeline, Update
from fedlab.defenses.settings import Pruning


class Prune:
    """Pruning as a defense of one round; it has no epsilon."""

    def __init__(self, settings: Pruning) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the pruning after whatever is done to the update already."""

        def release(update: Update) -> Update:
            return {name: pruned(t, share=self.settings.share) for name, t in update.items()}

        return pipeline.releasing(release)


def pruned(tensor: Tensor, *, share: float) -> Tensor:
    """A tensor with its smallest entries set to 0.

    Args:
        tensor: Of any shape.
        share: Of the entries that go, rounded to whole ones; at least one stays.

    Returns:
        The same shape. Of entries that are equally large the last ones stay.

    Example:
        >>> import torch
        >>> pruned(torch.tensor([0.1, -3.0, 0.2, 2.0]), share=0.5)
        tensor([ 0., -3.,  0.,  2.])
    """
    count = min(round(share * tensor.numel()), tensor.numel() - 1)
    flat = tensor.flatten()
    smallest = flat.abs().argsort(stable=True)[:count]
    return flat.index_fill(0, smallest, 0.0).view_as(tensor)
