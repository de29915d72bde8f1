"""Quantisation: every entry of an update is rounded to a few levels of its tensor.

One bit is scaled sign descent (Karimireddy et al., arXiv 1901.09847, example 4); more are evenly
spaced levels, rounded to the nearest one.
"""

from torch import Tensor

from fedlab.defenses.pipeline import ClientContext, Pipeline, Update
from fedlab.defenses.settings import Quantisation


class Quantise:
    """Quantisation as a defense of one round; it has no epsilon."""

    def __init__(self, settings: Quantisation) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the rounding after whatever is done to the update already."""

        def release(update: Update) -> Update:
            return {name: quantised(t, bits=self.settings.bits) for name, t in update.items()}

        return pipeline.releasing(release)


def quantised(tensor: Tensor, *, bits: int) -> Tensor:
    """A tensor with every entry rounded to a level.

    With b bits there are 2^(b-1) - 1 levels on each side of 0, up to the largest magnitude m, so an
    entry moves by at most m / (2^b - 2). With one bit, all entries that are not 0 get their mean
    magnitude.

    Args:
        tensor: Of any shape. Its zeros stay zeros: what was pruned is not sent at all.
        bits: At least 1.

    Example:
        >>> import torch
        >>> quantised(torch.tensor([0.1, -1.0, 0.7, 0.0]), bits=2)
        tensor([ 0., -1.,  1.,  0.])
        >>> quantised(torch.tensor([0.5, -1.0, 1.5, 0.0]), bits=1)
        tensor([ 1., -1.,  1.,  0.])
    """
    magnitudes = tensor.abs()
    largest = magnitudes.max()
    if not largest > 0:  # nothing to scale by; what is not finite is for the server to refuse
        return tensor.clone()
    if bits == 1:
        return tensor.sign() * (magnitudes.sum() / magnitudes.count_nonzero())
    levels = (1 << (bits - 1)) - 1
    return (tensor / largest * levels).round() / levels * largest
