"""Cocktail Party Attack: the images of a batch as independent components of a layer's gradient.

Kariyappa, Guo, Maeng, Xiong, Suh, Qureshi and Lee, "Cocktail Party Attack: Breaking
Aggregation-Based Privacy in Federated Learning Using Independent Component Analysis" (ICML 2023,
arXiv 2209.05578). Negentropy and the fixed-point iteration are Hyvärinen's, "Fast and Robust
Fixed-Point Algorithms for Independent Component Analysis" (IEEE Trans. Neural Networks 10, 1999).
"""

import math
import time
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from attacks.reconstruction.analytic import first_linear
from attacks.reconstruction.components import INITIALISATIONS
from attacks.reconstruction.methods import RunOptions
from attacks.reconstruction.objectives import LEAST
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.priors import total_variation
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.result import Reconstruction

ROUNDING = 1e-6
"""Singular value, as a share of the largest, below which a direction is rounding error."""

CONVERGED = 1e-7
"""Largest 1 - |cosine| between a row and the one before at which the iteration ends."""

MOST_STEPS = 500
"""Largest number of fixed-point iterations; 30 to 200 are usual."""

Grid = tuple[int, int, int]
"""Channels, height and width of images or feature maps."""


class MixingLayer(NamedTuple):
    """A fully connected layer whose gradient mixes the inputs of a batch.

    Attributes:
        name: Name of the layer in the network.
        rows: float64 ``[units, inputs]``, gradient of its weights.
        biases: float64 ``[units]``, gradient of its bias.
        on_pixels: True if the layer sees the image itself.
    """

    name: str
    rows: Tensor
    biases: Tensor
    on_pixels: bool


def cocktail_party(
    problem: Problem, settings: AttackSettings, options: RunOptions
) -> Reconstruction:
    """Unmix the gradient of a fully connected layer, and invert the features that come out.

    Row u of the gradient is sum_j d_ju x_j over the B inputs x of the layer: B unknown signals in
    as many mixtures as there are units. Where the layer is the first, the signals are the images.
    Behind convolutions they are embeddings, and an image of each is searched for that has it
    (feature inversion; the authors compare directions, since they do not know the scale). A
    gradient of fewer independent rows than images gives fewer images. Labels are inferred from the
    last layer and not assigned to images.
    """
    known = problem.knowledge
    layer = mixing_layer(problem.model, problem.mean_gradient(), known.num_images)
    if layer.on_pixels:
        low, high = problem.pixel_range
        found = unmix(layer, num_images=known.num_images, grid=known.image_shape)
        images, costs = found.view(-1, *known.image_shape).clamp(low, high), torch.zeros(0)
    else:
        shape, positive = _probed(problem, layer.name, options.generator)
        found = unmix(layer, num_images=known.num_images, grid=shape)
        wanted = found.clamp(min=0) if positive else found
        images, costs = _invert_features(problem, layer.name, wanted, settings, options)
    labels = known.labels
    if labels is None:
        labels = problem.infer_labels(settings.label_rule, options.generator)
    return Reconstruction(problem.pixels(images), labels[: len(images)], costs=costs)


def mixing_layer(model: nn.Module, gradient: Mapping[str, Tensor], num_images: int) -> MixingLayer:
    """Find the first fully connected layer that mixes a batch in enough ways.

    Args:
        model: The network.
        gradient: Gradient by parameter name.
        num_images: Number B of images; the layer needs as many units and inputs.

    Raises:
        ValueError: If there is no such layer with a bias, whose gradient gives the scale.
    """
    first = first_linear(model, gradient)
    for name, module in model.named_modules():
        weight, bias = (f"{name}.{kind}" if name else kind for kind in ("weight", "bias"))
        if not (isinstance(module, nn.Linear) and weight in gradient and bias in gradient):
            continue
        rows = gradient[weight].double()
        if min(rows.shape) >= num_images:
            pixels = first is not None and first[0] == weight
            return MixingLayer(name, rows, gradient[bias].double(), pixels)
    raise ValueError(
        "the cocktail party attack needs a fully connected layer with a bias and at least "
        f"{num_images} units and inputs, one for each image"
    )


def unmix(layer: MixingLayer, *, num_images: int, grid: Grid | None) -> Tensor:
    """Recover the inputs of a layer from its gradient by independent component analysis.

    Rows of the gradient are centred and whitened to their first B principal components. The rows w
    of an orthogonal matrix then maximise the negentropy (E log cosh w s - E log cosh n)^2, with a
    standard normal n, of all components together, by the symmetric fixed-point iteration
    w <- E s tanh(w s) - E (1 - tanh^2(w s)) w from the identity.

    Components of images are looked for in the differences of neighbouring pixels, whose unmixing
    matrix is that of the pixels: differences are sparse and hardly correlated between images, which
    pixels are not. The authors use pixels instead, and hold components apart by penalties on
    their total variation and on alike rows, with Adam.

    The signs and scales that independent components lack are those of the bias gradient: the same
    combination of units that leaves c times an input leaves c of it.

    Args:
        layer: The layer.
        num_images: Number B of images.
        grid: Shape of the inputs if they are images or feature maps; ``None`` for plain vectors.

    Returns:
        float32 ``[found, inputs]``, at most B of them.

    Raises:
        ValueError: If the gradient is zero or not finite, or that of the bias is zero.
    """
    if not (layer.rows.isfinite().all() and layer.rows.any()):
        raise ValueError("the gradient of the layer is zero or not finite, so nothing is mixed")
    mixtures = layer.rows if grid is None else _differences(layer.rows, grid)
    mixtures = mixtures - mixtures.mean(1, keepdim=True)
    left, singular, right = torch.linalg.svd(mixtures, full_matrices=False)
    rank = max(1, min(num_images, int((singular > ROUNDING * singular[0]).sum())))
    white = math.sqrt(mixtures.shape[1]) * right[:rank]
    combined = independent_rows(white) @ (left[:, :rank] / singular[:rank]).T
    scale = combined @ layer.biases
    known = scale.abs() > ROUNDING * scale.abs().max()  # a bias without gradient gives no scale
    if not known.any():
        raise ValueError("the bias gradient of the layer is zero, so its inputs have no scale")
    inputs: Tensor = combined[known] @ layer.rows / scale[known].unsqueeze(1)
    return inputs.float()


def independent_rows(white: Tensor) -> Tensor:
    """Orthogonal matrix whose components of whitened signals have the highest negentropy.

    Args:
        white: float64 ``[k, samples]``, uncorrelated signals of mean 0 and variance 1.

    Returns:
        float64 ``[k, k]``.
    """
    rows = torch.eye(len(white)).to(white)
    for _ in range(MOST_STEPS):
        bent = (rows @ white).tanh()
        slope = (1 - bent.square()).mean(1, keepdim=True)
        left, _, right = torch.linalg.svd(bent @ white.T / white.shape[1] - slope * rows)
        before, rows = rows, left @ right
        if float((1 - (rows * before).sum(1).abs()).max()) < CONVERGED:
            break
    return rows


def _differences(rows: Tensor, grid: Grid) -> Tensor:
    """Differences between neighbours, across and down, of rows that are images."""
    images = rows.view(-1, *grid)
    across, down = images.diff(dim=3), images.diff(dim=2)
    return torch.cat([across.flatten(1), down.flatten(1)], dim=1)


def _probed(problem: Problem, name: str, generator: torch.Generator) -> tuple[Grid | None, bool]:
    """Shape of the feature maps that a layer sees flattened, and whether they are never negative.

    The shape is ``None`` where its inputs are no maps of at least 2x2.
    """
    maps: list[Grid] = []
    inputs: list[Tensor] = []

    def note(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        if not inputs and isinstance(output, Tensor) and output.ndim == 4:
            maps.append((output.shape[1], output.shape[2], output.shape[3]))

    target = problem.model.get_submodule(name)
    hooks = [module.register_forward_hook(note) for module in problem.model.modules()]
    hooks.append(target.register_forward_pre_hook(lambda _, given: inputs.append(given[0])))
    noise = torch.randn((2, *problem.knowledge.image_shape), generator=generator)
    try:
        with torch.no_grad():
            functional_call(problem.model, _state(problem), (noise.to(problem.device),))
    finally:
        for hook in hooks:
            hook.remove()
    size = inputs[0].flatten(1).shape[1]
    fits = bool(maps) and math.prod(maps[-1]) == size and min(maps[-1][1:]) > 1
    return maps[-1] if fits else None, bool((inputs[0] >= 0).all())


def _invert_features(
    problem: Problem, name: str, wanted: Tensor, settings: AttackSettings, options: RunOptions
) -> tuple[Tensor, Tensor]:
    """Normalised images with given inputs of a layer, and the course of their relative error."""
    low, high = problem.pixel_range
    shape = (len(wanted), *problem.knowledge.image_shape)
    first = INITIALISATIONS.resolve(settings.initialisation)(shape, options.generator)
    images = first.to(problem.device).clamp(low, high).requires_grad_()
    state, seen = _state(problem), list[Tensor]()
    hook = problem.model.get_submodule(name).register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    adam = torch.optim.Adam([images], lr=settings.lr)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.iterations)
    started, costs = time.perf_counter(), []
    try:
        for _ in range(settings.iterations):
            if options.seconds is not None and time.perf_counter() - started > options.seconds:
                break
            adam.zero_grad()
            seen.clear()
            functional_call(problem.model, state, (images,))
            error = (seen[0].flatten(1) - wanted).square().sum(1)
            apart = error / wanted.square().sum(1).clamp(min=LEAST)
            costs.append(apart.detach().mean())
            # The total variation is a mean over all images, so that each weighs as if alone.
            cost = apart.sum() + settings.tv * len(images) * total_variation(images)
            cost.backward()  # type: ignore[no-untyped-call]
            adam.step()
            fall.step()
            with torch.no_grad():
                images.copy_(images.clamp(low, high))
    finally:
        hook.remove()
    return images.detach(), torch.stack(costs).cpu()


def _state(problem: Problem) -> dict[str, Tensor]:
    return {**problem.parameters, **{n: b.clone() for n, b in problem.buffers.items()}}
