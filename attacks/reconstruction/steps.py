"""How the candidate images move: Adam, its signed variant, the step decay and the box."""

import torch
from torch import Tensor


class SignedAdam:
    """Adam on the sign of the image gradient, with the paper's step decay.

    The step size falls to a tenth at 3/8, 5/8 and 7/8 of the iterations, which are written
    as I/2.667, I/1.6 and I/1.142 in the authors' code (Geiping et al. 2020).

    Args:
        images: The candidate, a leaf that requires grad.
        lr: Step size in normalised pixels.
        iterations: All iterations of the attack.
        signed: Take the sign first; plain Adam otherwise.
        low: Smallest normalised pixel per channel, shaped to broadcast; ``None`` for no box.
        high: Largest, likewise.
    """

    DECAYS = (2.667, 1.6, 1.142)

    def __init__(
        self,
        images: Tensor,
        *,
        lr: float,
        iterations: int,
        signed: bool,
        low: Tensor | None,
        high: Tensor | None,
    ) -> None:
        self._images = images
        self._signed = signed
        self._low, self._high = low, high
        self._adam = torch.optim.Adam([images], lr=lr)
        self._decay = torch.optim.lr_scheduler.MultiStepLR(
            self._adam, milestones=milestones(iterations), gamma=0.1
        )

    def step(self) -> None:
        """Move along the gradient that the images hold, and back into the box."""
        gradient = self._images.grad
        if gradient is not None and self._signed:
            gradient.sign_()
        self._adam.step()
        self._decay.step()
        if self._low is not None:
            with torch.no_grad():
                self._images.clamp_(self._low, self._high)


def milestones(iterations: int) -> list[int]:
    """Iterations after which the step size falls to a tenth.

    Example:
        >>> milestones(24_000)
        [8998, 14999, 21015]
    """
    return [int(iterations // part) for part in SignedAdam.DECAYS]
