"""Read images out of a gradient at trap weights that carries Gaussian noise of known deviation.

With the share s of an image x in the gradient by the bias of a unit, the unit's row of the gradient
is the sum of s (x, 1) over the images that activate it, plus noise of deviation d on each entry. An
image that is alone in several units follows from their rows g with the variance d^2 / sum(s^2),
which is least by the Gauss-Markov theorem. The server knows the weights, so it knows from an image
which units it activates and, for each label, in which proportions; and the public images, so it
knows which images are plausible.

1. Each row with a large share is a candidate, averaged over the rows that are multiples of it up to
   the noise. A mixture of images seldom repeats.
2. Candidates are chosen one by one (matching pursuit, Mallat and Zhang 1993), by how much of the
   whole gradient they explain with the shares that the network predicts for them; images of 8 bits
   come first where the noise is below their levels.
3. Least squares alternate between shares, each in the units that the images activate, and images.
   Rows count by the inverse of the variance that the images leave unexplained in them.
4. What the chosen images leave of the gradient gives further candidates.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from attacks.malicious_server.gaussian_prior import GaussianPrior
from attacks.malicious_server.passed_image import Shape, images_passed, layer_input
from attacks.malicious_server.traps import LEVELS

FAINTEST = 0.5
"""Smallest share of a row that is a candidate, in deviations of the noise. Below it more candidates
found no more images; with 2 fewer images were found where the noise is strong."""

CERTAIN = 4.0
"""Deviations of the noise within which a row counts as a multiple of a candidate, and beyond which
a share counts as above 0."""

FIRMER = 2.0
"""Largest variance that a candidate adds to a row of which it is a multiple, in variances of the
noise: a faint candidate has so much noise that any row would fit."""

MERGES, ROUNDS, REFINED, WEIGHED = 2, 3, 3, 4
"""Repetitions of averaging over rows, of all steps, of least squares, and of weights of rows."""

SHOWN, EXACT = 0.5, 0.9
"""Least mean cosine of pixels in levels for which images of 8 bits can be told from mixtures, and
share of what the noise leaves of it that such an image has. Half of the pixels of a mixture of
digits are black, and so at a level."""

UNITS = 64
"""Number of units whose shares are solved for together, which bounds the memory."""

ELEMENTS = 50_000_000
"""Largest number of predicted shares, of all candidates, labels and units, in memory."""


@dataclass(frozen=True)
class Found:
    """Images in a noisy gradient, those that explain most of it first.

    Attributes:
        images: Normalised images within the range of pixels, float
            ``[found, channels, height, width]``.
        labels: The labels that explain the gradient best, int64 ``[found]``.
        variances: Variance of the noise on each pixel before the images were denoised, float
            ``[found]``.
    """

    images: Tensor = field(repr=False)
    labels: Tensor
    variances: Tensor


@dataclass(frozen=True)
class TrapLayer:
    """The layer with trap weights, in the network that was sent.

    Attributes:
        model: The network; it stays unchanged.
        state: Parameters and buffers that were sent, by name.
        name: Name of the layer.
        shape: Channels, height and width of an image.
        classes: Number of classes.
        low: Smallest normalised pixel, broadcast against ``[n, channels, height, width]``.
        high: Largest normalised pixel, broadcast in the same way.
        prior: Distribution of images, by which noise is removed.
    """

    model: nn.Module
    state: Mapping[str, Tensor] = field(repr=False)
    name: str
    shape: Shape
    classes: int
    low: Tensor
    high: Tensor
    prior: GaussianPrior = field(repr=False)

    def inputs(self, images: Tensor) -> Tensor:
        """Inputs of the layer, with a 1 for the bias, float ``[n, features + 1]``."""
        features = layer_input(self.model, self.state, self.name, images).detach()
        return torch.cat([features, features.new_ones((len(features), 1))], dim=1)

    def plausible(self, inputs: Tensor, variances: Tensor) -> Tensor:
        """The images behind noisy inputs of the layer, denoised, float ``[n, *shape]``."""
        noisy = images_passed(self.model, self.state, self.name, inputs[:, :-1], shape=self.shape)
        return self.prior.denoised(noisy, variances).clamp(self.low, self.high)

    def exact(self, inputs: Tensor, variances: Tensor) -> Tensor:
        """Which noisy inputs are images of 8 bits, as no mixture is, as far as noise shows it.

        The mean of cos(2 pi x) over pixels x in levels is 1 for images of 8 bits, and
        exp(-2 pi^2 s^2) with noise of deviation s.
        """
        noisy = images_passed(self.model, self.state, self.name, inputs[:, :-1], shape=self.shape)
        scale = 2 * math.pi * LEVELS / (self.high - self.low)
        cosine = ((noisy - self.low) * scale).cos().flatten(1).mean(1)
        expected = (-0.5 * scale**2 * variances.view(-1, 1, 1, 1)).exp().flatten(1).mean(1)
        return (expected > SHOWN) & (cosine > EXACT * expected)

    def active(self, inputs: Tensor, variances: Tensor) -> Tensor:
        """Which units the images behind noisy inputs may activate, bool ``[units, n]``."""
        weight = torch.cat(
            [self.state[f"{self.name}.weight"], self.state[f"{self.name}.bias"][:, None]], dim=1
        )
        slack = weight[:, :-1].norm(dim=1)[:, None] * variances.sqrt()
        active: Tensor = weight @ inputs.T > -slack
        return active

    def shares(self, images: Tensor) -> Tensor:
        """Derivative of an image's loss by each unit, float ``[n, classes, units]``."""
        units = len(self.state[f"{self.name}.bias"])
        offset = images.new_zeros((len(images), units), requires_grad=True)
        hook = self.model.get_submodule(self.name).register_forward_hook(
            lambda _, __, outputs: outputs + offset
        )
        try:
            state = {name: tensor.clone() for name, tensor in self.state.items()}
            outputs: Tensor = functional_call(self.model, state, (images,))
        finally:
            hook.remove()
        losses = -functional.log_softmax(outputs, dim=1).sum(0)
        return torch.stack(
            [torch.autograd.grad(loss, offset, retain_graph=True)[0] for loss in losses], dim=1
        )


@dataclass(frozen=True)
class _Fit:
    """Inputs of the layer that fit the rows by least squares.

    Attributes:
        inputs: float ``[n, features + 1]``.
        variances: Variance of the noise on each entry of an input, float ``[n]``.
        rest: What is left of the rows, float ``[units, features + 1]``.
    """

    inputs: Tensor
    variances: Tensor
    rest: Tensor


def read_noisy(layer: TrapLayer, rows: Tensor, *, deviation: float, most: int) -> Found:
    """Read the images out of the gradient of a layer with trap weights.

    The scale of the gradient does not matter, nor do different scales of images, as by clipping.

    Args:
        layer: The layer and its network.
        rows: Gradient of weights and bias, float ``[units, features + 1]``.
        deviation: Standard deviation of the noise on each entry, above 0.
        most: Largest number of images.

    Returns:
        At most so many images; fewer if the gradient of the bias has fewer entries that are not 0.
    """
    inputs, variances = _candidates(rows, deviation, layer, most)
    images = layer.plausible(inputs, variances)
    for _ in range(ROUNDS):
        first = layer.exact(inputs, variances)
        chosen, labels = _pursued(layer, rows, images, most, first)
        fit = _fitted(layer, rows, inputs[chosen], variances[chosen], deviation)
        inputs, variances = fit.inputs, fit.variances
        images = layer.plausible(inputs, variances)
        found = Found(images, labels, variances)
        more, faint = _candidates(fit.rest, deviation, layer, most)
        inputs, variances = torch.cat([inputs, more]), torch.cat([variances, faint])
        images = torch.cat([images, layer.plausible(more, faint)])
    missing = most - len(found.images)
    return _completed(found, layer, rows, deviation, missing) if missing else found


def _completed(
    found: Found, layer: TrapLayer, rows: Tensor, deviation: float, missing: int
) -> Found:
    """Add guesses from single rows for images that cannot be told from others under the noise."""
    share = rows[:, -1]
    best = share.abs().argsort(descending=True, stable=True)[:missing]
    best = best[share[best] != 0]
    variances = (deviation / share[best]).square()
    images = layer.plausible(rows[best] / share[best, None], variances)
    chosen, labels = _pursued(layer, rows, images, missing, torch.zeros_like(best).bool())
    return Found(
        torch.cat([found.images, images[chosen]]),
        torch.cat([found.labels, labels]),
        torch.cat([found.variances, variances[chosen]]),
    )


def _candidates(
    rows: Tensor, deviation: float, layer: TrapLayer, most: int
) -> tuple[Tensor, Tensor]:
    """Inputs of the layer that rows may stem from ``[n, features + 1]``, and their variances."""
    share = rows[:, -1].abs()
    count = max(most, int((share > FAINTEST * deviation).sum()))
    limit = max(2 * most, ELEMENTS // (len(rows) * layer.classes))
    own = share.argsort(descending=True, stable=True)[: min(count, limit)]
    own = own[share[own] > 0]
    place = torch.arange(len(own), device=own.device)
    weights = rows.new_zeros((len(rows), len(own)))
    weights[own, place] = rows[own, -1]
    for left in reversed(range(MERGES + 1)):
        inputs = weights.T @ rows / (weights.T @ rows[:, -1:])
        variances = deviation**2 / weights.square().sum(0)
        if left:
            multiple, fits = _multiples(rows, inputs, variances, deviation)
            fits[own, place] = True
            weights = multiple * fits
    taken = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    alike = _alike(inputs, variances)
    kept: list[int] = []
    gone = torch.zeros(len(own), dtype=torch.bool, device=rows.device)
    for candidate in variances.argsort(stable=True).tolist():
        if not (taken[own[candidate]] or gone[candidate]):
            kept.append(candidate)
            taken |= weights[:, candidate] != 0
            gone |= alike[candidate]
    return inputs[kept], variances[kept]


def _multiples(
    rows: Tensor, inputs: Tensor, variances: Tensor, deviation: float
) -> tuple[Tensor, Tensor]:
    """Factor of each input in each row, and whether the row is that and noise, ``[units, n]``."""
    entries, lengths = rows.shape[1], inputs.square().sum(1)
    factor = rows @ inputs.T / lengths
    size = rows.square().sum(1, keepdim=True)
    unexplained = size - factor.square() * lengths
    added = factor.square() * variances
    noise = entries * (deviation**2 + added) * (1 + CERTAIN * math.sqrt(2 / entries))
    # What is left of a large row after the subtraction is rounded.
    fits = unexplained < noise + 10 * torch.finfo(rows.dtype).eps * size
    fits &= factor.square() * lengths > (CERTAIN * deviation) ** 2
    return factor, fits & (added < FIRMER * deviation**2)


def _alike(inputs: Tensor, variances: Tensor) -> Tensor:
    """Which inputs differ by no more than noise, bool ``[n, n]``."""
    entries = inputs.shape[1]
    apart = torch.cdist(inputs, inputs).square() / entries
    noise = (variances[:, None] + variances) * (1 + CERTAIN * math.sqrt(2 / entries))
    return apart < noise + 10 * torch.finfo(inputs.dtype).eps


def _pursued(
    layer: TrapLayer, rows: Tensor, images: Tensor, most: int, first: Tensor
) -> tuple[list[int], Tensor]:
    """Places and labels of the images that explain most of the gradient, the ``first`` before."""
    inputs, shares = layer.inputs(images), layer.shares(images)
    products = inputs @ inputs.T
    matched = torch.einsum("nlu,un->nl", shares, rows @ inputs.T)
    sizes = shares.square().sum(2) * products.diagonal()[:, None]
    size = rows.square().sum()
    chosen: list[int] = []
    labels: list[int] = []
    for _ in range(min(most, len(images))):
        scale = matched.clamp(min=0) / sizes.clamp(min=torch.finfo(sizes.dtype).tiny)
        gain = scale * matched
        gain[first] += size
        gain[chosen] = -1
        image, label = divmod(int(gain.argmax()), layer.classes)
        overlap = (shares @ shares[image, label]) * products[image][:, None]
        matched = matched - scale[image, label] * overlap
        chosen.append(image)
        labels.append(label)
    return chosen, torch.tensor(labels, dtype=torch.int64, device=rows.device)


def _fitted(
    layer: TrapLayer, rows: Tensor, inputs: Tensor, variances: Tensor, deviation: float
) -> _Fit:
    """Improve inputs by least squares, as far as their variances fall."""
    first, sure = inputs, variances
    for _ in range(REFINED):
        known = layer.inputs(layer.plausible(inputs, variances))
        shares = _shares_of_units(rows, known, layer.active(known, variances))
        rest = rows - (shares @ known.double()).to(rows)
        for _ in range(WEIGHED):
            weights = 1 / rest.double().square().mean(1).clamp(min=deviation**2)
            weighted = shares.T * weights
            normal = weighted @ shares
            # Images without a share would make it singular.
            normal.diagonal().add_(1e-12 * normal.diagonal().mean())
            inverse = torch.linalg.inv(normal)
            solved = inverse @ (weighted @ rows.double())
            rest = rows - (shares @ solved).to(rows)
        fitted = inverse.diagonal().to(variances)
        better = (fitted < sure) & (fitted > 0)
        variances = fitted.where(better, sure)
        inputs = solved.to(rows).where(better[:, None], first)
    return _Fit(inputs, variances, rest)


def _shares_of_units(rows: Tensor, inputs: Tensor, active: Tensor) -> Tensor:
    """Shares of images in rows by least squares, 0 where not active, float64 ``[units, n]``."""
    products, matched = (inputs @ inputs.T).double(), (rows @ inputs.T).double()
    size = products.diagonal().mean()
    shares = torch.zeros_like(matched)
    most = int(active.sum(1).max())
    for first in range(0, len(rows), UNITS):
        units = slice(first, first + UNITS)
        own, places = active[units].double().topk(most)
        inner = products[places[:, :, None], places[:, None, :]] * own[:, :, None] * own[:, None]
        inner += torch.diag_embed((1 - own) * size + 1e-9 * size)
        match = matched[units].gather(1, places) * own
        shares[units].scatter_(1, places, torch.linalg.solve(inner, match[:, :, None]).squeeze(2))
    return shares
