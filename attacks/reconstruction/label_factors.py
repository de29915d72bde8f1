"""Labels from a factorisation of the last layer's gradient into one term for each image.

Below as many images as classes, few sets of labels allow such a factorisation at all.
"""

from dataclasses import dataclass, field
from itertools import combinations_with_replacement, zip_longest
from math import comb

import torch
from torch import Tensor
from torch.nn import functional

from attacks.reconstruction.output_layer import NothingToInfer, OutputLayer, Outputs

STARTS = (8, 16, 32)
"""Starting points for each candidate in the first and later rounds of the search."""

WORK = 8_000
"""Starting points times candidates times squared images in one round: less than a second on one
core."""

AT_A_TIME = 32
"""Candidates that are tried before the search stops if one of them fits."""

FLOORS = ((1e-1, 10), (1e-2, 10), (1e-3, 20))
"""Share of the largest singular value that is added to all in the weights of the residuals, and
iterations with it. A large share first fits the images that dominate the gradient."""

POLISH = (1e-5, 40)
"""Share and iterations for the best starting point of a candidate; float32 gradients have an error
of 1e-7."""

FITS = 1e-4
"""Squared relative residual below which a factorisation counts as found."""

TIED = 10.0
"""Ratio of squared residuals below which two candidates fit equally well."""

LARGEST_COUNT = 3_000
"""Largest number of candidates that are listed."""

SATURATED = 1e-6
"""Smallest 1 - p_y of an image that leaves a trace in a float32 gradient."""

BANDWIDTH = 0.5
"""Standard deviation, in powers of ten, of the kernels of the density of 1 - p_y."""


def factorise(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Find labels for which features exist that explain the gradient of the last layer.

    The weight gradient is G = (1/B) sum_j (p_j - y_j) h_j^T. For B below the number of classes its
    rows span the features, h_j = R^T q_j with an orthonormal basis R of the row space. With
    p_j = softmax(W h_j + b) there are B^2 unknowns in (C - 1)(B + 1) equations, which wrong labels
    do not satisfy. The unknowns are found by Levenberg-Marquardt, from the features of public
    images. The candidates are multisets of labels that contain every class that is certainly
    present, ordered by the rule ``conditional``. An image that the network is certain of leaves no
    trace in the gradient, so among candidates that fit equally well the most probable one wins.

    The low rank is the starting point of SPEAR (Dimitrov et al., arXiv 2403.03945); the rest is our
    own.

    Raises:
        NothingToInfer: If the layer's weights, its bias or public images are unknown, there are
            as many images as classes or more, or no class has a negative gradient.
    """
    task = _Task.of(layer, num_images)
    listed = _candidates(layer, num_images, task.outputs)
    size = max(AT_A_TIME, WORK // (STARTS[0] * num_images**2))
    listed = listed[:size]
    generator = torch.Generator().manual_seed(0)  # the same answer each time
    cost = torch.full((len(listed),), torch.inf, dtype=torch.float64)
    likely = torch.full_like(cost, -torch.inf)
    for starts in STARTS:
        # Later rounds have more starting points for fewer candidates.
        kept = max(1, min(len(listed), WORK // (starts * num_images**2)))
        for places in torch.split(cost.argsort(stable=True)[:kept], AT_A_TIME):
            found, chance = task.fit(listed[places], starts, generator)
            better = found < cost[places]
            cost[places] = torch.where(better, found, cost[places])
            likely[places] = torch.where(better, chance, likely[places])
            if cost.min() < FITS:
                break
        if cost.min() < FITS:
            break
    tied = cost <= max(TIED * float(cost.min()), FITS)
    best = torch.where(tied, likely, -torch.inf).argmax()
    return listed[best].to(layer.signal.device)


@dataclass(frozen=True)
class _Task:
    """The equations that images have to satisfy, in float64 on the CPU.

    Attributes:
        outputs: Outputs for public images.
        basis: Orthonormal basis of the rows of the weight gradient, ``[rank, features]``.
        singular: Singular values of the weight gradient, ``[rank]``.
        weights: Weights of the layer in this basis, ``[classes, rank]``.
        bias: Bias of the layer, ``[classes]``.
        wanted: Sum over the images of (p - y) [q, scale]^T, ``[classes, rank + 1]``.
        scale: Factor of the bias gradient, so that both parts are about as large.
        starts: Coordinates of public features, ``[m, rank]``.
        margins: Decimal logarithm of 1 - p_y of public images, ``[m]``.
    """

    outputs: Outputs
    basis: Tensor = field(repr=False)
    singular: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    wanted: Tensor = field(repr=False)
    scale: Tensor = field(repr=False)
    starts: Tensor = field(repr=False)
    margins: Tensor = field(repr=False)

    @classmethod
    def of(cls, layer: OutputLayer, num_images: int) -> "_Task":
        outputs, weight = layer.outputs, layer.weight
        if weight is None or layer.weights is None or layer.bias is None or not layer.has_bias:
            raise NothingToInfer("weights or bias of the last layer are unknown")
        if outputs is None or outputs.features is None:
            raise NothingToInfer("no features of other images are known")
        if num_images >= len(weight):
            raise NothingToInfer("there are as many images as classes")
        gradient, signal = weight.double().cpu(), layer.signal.double().cpu()
        if not (gradient.isfinite().all() and signal.isfinite().all() and signal.min() < 0):
            raise NothingToInfer("no class has a negative gradient")
        if not gradient.any():
            raise NothingToInfer("the weight gradient of the last layer is zero")
        _, singular, rows = torch.linalg.svd(gradient, full_matrices=False)
        smallest = max(SATURATED, 4 * layer.rounding)
        rank = max(1, min(num_images, int((singular > smallest * singular[0]).sum())))
        basis, singular = rows[:rank], singular[:rank]
        weights, bias = layer.weights.double().cpu(), layer.bias.double().cpu()
        scale = gradient.norm() / signal.norm()
        parts = [gradient @ basis.T, scale * signal.unsqueeze(1)]
        features = outputs.features.double().cpu()
        right = outputs.probabilities.double().cpu().gather(1, outputs.labels.cpu().unsqueeze(1))
        return cls(
            outputs=outputs,
            basis=basis,
            singular=singular,
            weights=weights @ basis.T,
            bias=bias,
            wanted=num_images * torch.cat(parts, 1),
            scale=scale,
            starts=_coordinates(features, basis, weights),
            margins=(1 - right.squeeze(1)).clamp(min=SATURATED).log10(),
        )

    def fit(
        self, candidates: Tensor, starts: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Squared relative residual of each candidate, and its logarithmic probability.

        Args:
            candidates: int64 ``[k, n]``, labels.
            starts: Number of starting points of each candidate.
            generator: CPU generator of the choice of public images to start from.
        """
        q = self.starts[self._images_of(candidates.repeat_interleave(starts, 0), generator)]
        for (floor, iterations), kept in zip(FLOORS, (starts // 2, starts // 4, 1), strict=True):
            q, cost = self._solve(
                q, candidates.repeat_interleave(len(q) // len(candidates), 0), floor, iterations
            )
            cost = cost.view(len(candidates), -1)
            best = cost.argsort(1)[:, :kept] + cost.shape[1] * torch.arange(len(cost)).unsqueeze(1)
            q = q[best.flatten()]
        q, cost = self._solve(q, candidates, *POLISH)
        return cost, self._log_probability(q, candidates)

    def _images_of(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """A random public image of each label; any image if there is none of its class."""
        known = self.outputs.labels.cpu()
        member = functional.one_hot(known, len(self.bias)).T.double()
        member[member.sum(1) == 0] = 1
        drawn = torch.multinomial(member[labels.flatten()], 1, generator=generator)
        return drawn.view(labels.shape)

    def _log_probability(self, q: Tensor, labels: Tensor) -> Tensor:
        """Logarithm of the number of orders of the labels times the density of each 1 - p_y."""
        classes = len(self.bias)
        right = (q @ self.weights.T + self.bias).softmax(-1).gather(-1, labels.unsqueeze(-1))
        margin = (1 - right).clamp(min=SATURATED).log10()
        kernel = (-0.5 * ((margin - self.margins) / BANDWIDTH).square()).exp()
        alike = self.outputs.labels.cpu() == labels.unsqueeze(-1)
        density = (kernel * alike).sum(-1) / alike.sum(-1).clamp(min=1)
        counts = functional.one_hot(labels, classes).sum(1).double()
        return (density + 1e-6).log().sum(1) - torch.lgamma(counts + 1).sum(1)

    def _solve(
        self, q: Tensor, labels: Tensor, floor: float, iterations: int
    ) -> tuple[Tensor, Tensor]:
        """Levenberg-Marquardt from ``q [k, n, rank]``; coordinates and squared residuals."""
        k, images, rank = q.shape
        truth = functional.one_hot(labels, len(self.bias)).to(q)
        size = torch.cat(
            [self.singular + floor * self.singular[0], self.wanted[:, -1:].norm(dim=0) / images]
        )
        weight = 1 / (images * size)
        eye = torch.eye(rank, dtype=q.dtype)

        def state(q: Tensor) -> tuple[Tensor, ...]:
            p = (q @ self.weights.T + self.bias).softmax(-1)
            extended = torch.cat([q, self.scale.expand(k, images, 1)], -1)
            sums = (p - truth).mT @ extended
            residual = ((sums - self.wanted) * weight).flatten(1)
            return q, p, extended, residual, residual.square().sum(1)

        now = state(q)
        damping = torch.full((k,), 1e-2, dtype=q.dtype)
        for _ in range(iterations):
            q, p, extended, residual, cost = now
            # dp/dq = (diag(p) - p p^T) W, [k, images, classes, rank].
            change = p.unsqueeze(-1) * (self.weights - (p @ self.weights).unsqueeze(2))
            jacobian = torch.einsum("kicv,kir->kcriv", change, extended)
            jacobian[:, :, :rank] += torch.einsum("kic,rv->kcriv", p - truth, eye)
            jacobian = (jacobian * weight[:, None, None]).reshape(k, -1, images * rank)
            normal = jacobian.mT @ jacobian
            diagonal = normal.diagonal(dim1=1, dim2=2)
            damped = damping.unsqueeze(1) * (diagonal + 1e-9 * diagonal.amax(1, keepdim=True))
            step, _ = torch.linalg.solve_ex(
                normal + torch.diag_embed(damped), jacobian.mT @ residual.unsqueeze(-1)
            )
            tried = state(q - step.view_as(q))
            good = tried[-1] < cost  # false for NaN as well
            now = tuple(
                torch.where(good.view(-1, *[1] * (old.ndim - 1)), new, old)
                for new, old in zip(tried, now, strict=True)
            )
            damping = torch.where(good, damping * 0.3, damping * 4).clamp(1e-12, 1e8)
        return now[0], now[-1]


def _coordinates(features: Tensor, basis: Tensor, weights: Tensor) -> Tensor:
    """Coordinates whose features and logits are closest to those of the public images."""
    seen = weights @ basis.T
    seen = seen - seen.mean(0)
    logits = features @ weights.T
    logits = logits - logits.mean(1, keepdim=True)
    q = features @ basis.T
    balance = q.square().mean() / logits.square().mean().clamp(min=1e-12)
    system = balance * seen.T @ seen + torch.eye(len(basis), dtype=q.dtype)
    found: Tensor = torch.linalg.solve(system, (q + balance * logits @ seen).T).T
    return found


def _candidates(layer: OutputLayer, num_images: int, outputs: Outputs) -> Tensor:
    """Candidate labels ``[k, n]``, the most plausible first.

    All contain the classes that are certainly present. Those without any other class, and those
    with any, take turns, because signs reveal nearly all classes where features are sparse only.
    """
    signal = layer.signal.double().cpu()
    classes = len(signal)
    certain = layer.present(num_images).cpu()
    base = certain.nonzero().squeeze(1).tolist()
    left = num_images - len(base)
    lists: list[list[tuple[int, ...]]] = []
    for allowed in (base, range(classes)):
        if not allowed or comb(len(allowed) + left - 1, left) > LARGEST_COUNT:
            continue
        labels = [sorted([*base, *more]) for more in combinations_with_replacement(allowed, left)]
        counts = functional.one_hot(torch.tensor(labels), classes).sum(1)
        order = misfit(counts, signal, outputs, num_images).argsort(stable=True)
        lists.append([tuple(labels[place]) for place in order])
    if not lists:
        raise NothingToInfer("there are too many possible sets of labels")
    taken = dict.fromkeys(one for pair in zip_longest(*lists) for one in pair if one is not None)
    return torch.tensor(list(taken))


def misfit(counts: Tensor, signal: Tensor, outputs: Outputs, num_images: int) -> Tensor:
    """Squared error of the bias gradient that the mean output of each class predicts, ``[k]``.

    Args:
        counts: int64 ``[k, classes]``, images of each class.
        signal: float ``[classes]``, the bias gradient.
        outputs: Outputs for public images.
        num_images: Number of images in the batch.
    """
    expected = outputs.by_class.to(signal)
    predicted = counts.to(signal) @ (expected - torch.eye(len(signal)).to(signal))
    return (predicted - num_images * signal).square().sum(1)
