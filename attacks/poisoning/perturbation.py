"""How poisons may differ from the images that they are made of, and how that change moves."""

import torch
from torch import Tensor

from attacks.poisoning.colour import Colour, recolour, roughness
from attacks.poisoning.pixel_levels import WHITE, whole_levels


class Perturbation:
    """x_p = f_g(x) + delta: a change within epsilon, and optionally one of all colours alike.

    Both begin small: delta uniform in its ball, g at zero. Adam moves them, and after each step
    they are projected: |delta| <= epsilon, |g| <= its bound, and x_p in [0, 1]. With colour on,
    epsilon alone understates how far a poison is from its image.

    Args:
        bases: uint8 ``[n, channels, height, width]``.
        epsilon: In pixels of [0, 1]; cut to whole steps of 1/255, as poisons are uint8.
        colour: Bounds of f_g, ``None`` for none.
        signed: Whether Adam gets the sign of the gradient.
        generator: CPU generator of the first delta.
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
        """The poisons as they are, float in [0, 1], differentiable by what moves."""
        found = self._recoloured() + self._delta
        # What is cut keeps its gradient, or it would never come back from the border.
        return found + (found.clamp(0, 1) - found).detach()

    def move(self, pixels: Tensor, gradient: Tensor, *, rate: float) -> None:
        """Take one step down the loss and project.

        Args:
            pixels: What ``pixels`` returned.
            gradient: Of the loss with respect to those.
            rate: Size of the step in units of the bounds.
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
        """The poisons, uint8 ``[n, channels, height, width]``.

        Without colour no value is farther than epsilon from that of its image.
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
