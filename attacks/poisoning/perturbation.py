"""The change of a poison and its optimisation: an additive part and a colour remapping."""

import torch
from torch import Tensor

from attacks.poisoning.colour import Colour, recolour, roughness
from attacks.poisoning.pixel_levels import WHITE, whole_levels


class Perturbation:
    """A change x_p = f_g(x) + delta: delta within epsilon, and an optional colour remapping f_g.

    Delta starts uniform within epsilon, and g at zero. Adam moves both, and each step projects
    them: |delta| <= epsilon, |g| <= its bound, and x_p in [0, 1]. With a colour remapping, a pixel
    may change by more than epsilon.

    Args:
        bases: Clean images, uint8 ``[n, channels, height, width]``.
        epsilon: Largest additive change where pixels are in [0, 1]; rounded down to a multiple of
            1/255, because poisons are uint8.
        colour: Limits of the colour remapping; ``None`` for no remapping.
        signed: Pass the sign of the gradient to Adam instead of the gradient.
        generator: CPU generator of the initial delta.
    """

    def __init__(
        self,
        bases: Tensor,
        *,
        epsilon: float,
        colour: Colour | None = None,
        signed: bool = False,
        generator: torch.Generator,
    ) -> None:
        self._bases = bases.float() / WHITE
        self._epsilon = whole_levels(epsilon) / WHITE
        self._colour, self._signed = colour, signed
        first = self._epsilon * (2 * torch.rand(bases.shape, generator=generator) - 1)
        self._delta = first.to(bases.device)
        self._grid = None if colour is None else colour.identity(self._bases)
        self._moved = [self._delta, *([] if self._grid is None else [self._grid])]
        self._limits = [self._epsilon, *([] if colour is None else [colour.bound])]
        for tensor in self._moved:
            tensor.requires_grad_()
        # A rate of 1 moves each value by about its bound.
        groups = [
            {"params": [tensor], "lr": limit}
            for tensor, limit in zip(self._moved, self._limits, strict=True)
        ]
        self._adam = torch.optim.Adam(groups)
        self._project()

    def pixels(self) -> Tensor:
        """Return the current poisons, float in [0, 1], differentiable by delta and g."""
        found = self._recoloured() + self._delta
        # Clipped values keep their gradient; without it they could not leave the border again.
        return found + (found.clamp(0, 1) - found).detach()

    def move(self, pixels: Tensor, gradient: Tensor, *, rate: float) -> None:
        """Take one step down the loss and project.

        Args:
            pixels: Result of ``pixels``.
            gradient: Gradient of the loss with respect to it.
            rate: Step size in units of the bounds.
        """
        self._adam.zero_grad()
        torch.autograd.backward(pixels, gradient)
        if self._colour is not None and self._grid is not None and self._colour.smoothness:
            torch.autograd.backward(self._colour.smoothness * roughness(self._grid))
        for tensor, limit, group in zip(
            self._moved, self._limits, self._adam.param_groups, strict=True
        ):
            group["lr"] = rate * limit
            if self._signed and tensor.grad is not None:
                tensor.grad.sign_()
        self._adam.step()
        self._project()

    def rounded(self) -> Tensor:
        """Return the poisons, uint8 ``[n, channels, height, width]``.

        Without a colour remapping no value differs by more than epsilon from its image.
        """
        with torch.no_grad():
            return (self.pixels() * WHITE).round().clamp(0, WHITE).to(torch.uint8)

    def _recoloured(self) -> Tensor:
        if self._colour is None or self._grid is None:
            return self._bases
        return recolour(self._bases, self._grid, space=self._colour.space)

    @torch.no_grad()
    def _project(self) -> None:
        for tensor, limit in zip(self._moved, self._limits, strict=True):
            tensor.clamp_(-limit, limit)
        plain = self._recoloured()
        self._delta.copy_((plain + self._delta).clamp(0, 1) - plain)
