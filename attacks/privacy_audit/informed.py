"""The informed adversary: it knows everything but which of several candidates a client holds.

Balle, Cherubin and Hayes (S&P 2022). It computes the gradient of each candidate, and returns the
one with the largest likelihood. No attack on the same release identifies the image more often, so
its success lies between that of reconstructions and the certified ceiling.
"""

import math

import torch
from torch import Tensor


def posterior(
    residual: Tensor,
    candidates: Tensor,
    *,
    deviation: float,
    sample_rate: float = 1.0,
    steps: int = 1,
) -> Tensor:
    """Compute the probability that each candidate is the client's image, all being equally likely.

    The release is a sum over T steps of clipped gradients and Gaussian noise. If the image g is in
    k of its batches, the residual r has, up to a factor that is equal for all::

        likelihood of k = exp((k <r, g> - k^2 |g|^2 / 2) / (T s^2)),    k ~ Binomial(T, q)

    Gradients must not change from step to step: one step, or a small learning rate.

    Args:
        residual: The release without the gradients of all other images, ``[d]``.
        candidates: Clipped gradient of each candidate, ``[n, d]``.
        deviation: Standard deviation s of the noise of one step, above 0.
        sample_rate: Probability q, in (0, 1], that an image is in a batch.
        steps: Number of steps T, at least 1.

    Returns:
        Probabilities, float64 ``[n]``.

    Example:
        >>> posterior(torch.tensor([0.9, 0.0]), torch.eye(2), deviation=0.5).round(decimals=2)
        tensor([0.9700, 0.0300], dtype=torch.float64)
    """
    gradients = candidates.double()
    count = torch.arange(steps + 1, dtype=torch.float64, device=gradients.device).unsqueeze(1)
    match = gradients @ residual.double()
    energy = gradients.square().sum(1) / 2
    logs = (count * match - count.square() * energy) / (steps * deviation**2)
    ways = torch.lgamma(count + 1) + torch.lgamma(steps - count + 1)
    rate = torch.tensor(sample_rate, dtype=torch.float64, device=gradients.device)
    chances = torch.xlogy(count, rate) + torch.xlogy(steps - count, 1 - rate)
    # The binomial coefficient lacks its constant lgamma(T + 1), which is equal for all.
    return (logs + chances - ways).logsumexp(0).softmax(0)


def sum_of_gradients(descent: Tensor, *, expected_batch_size: float) -> Tensor:
    """Return the sum of clipped gradients and noise behind an update of DP-SGD.

    Args:
        descent: Result of ``observation.descent``, a sum of noisy means, ``[d]``.
        expected_batch_size: Number by which DP-SGD divided each sum, above 0.

    Raises:
        ValueError: If the number is not above 0.
    """
    if not (expected_batch_size > 0 and math.isfinite(expected_batch_size)):
        raise ValueError(f"the expected batch size must be above 0, not {expected_batch_size}")
    return descent * expected_batch_size
