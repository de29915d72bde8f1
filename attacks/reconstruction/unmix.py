"""Un-mixing, the second step against DP-InstaHide: private images from many mixtures of them.

The first step reconstructs the mixed inputs of a client in many rounds; this step explains all of
them by one small set of images. Carlini et al., "Is Private Learning Possible with Instance
Encoding?" (arXiv 2011.05315) show that the re-use of an image in many mixtures reveals it: cluster,
assign, regress. Mixtures are those of Borgnia et al. (arXiv 2103.02079): equal means of k images
plus noise.
"""

import math
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor

RIDGE = 1e-2
"""Weight of a penalty towards the mean mixture, relative to one mixture. It determines images that
are in no mixture, and is a thousandth of the evidence for an image that is in ten."""

_FINALISTS = 6  # starts refined on pixels, which costs far more than finding them
_ROTATIONS = 60  # steps of a start at most; they settle within about 20
_EXHAUSTIVE = 4096  # subsets tried one by one up to this many, which is n = 28 at k = 3
_SWEEPS = 50  # of coordinate descent at most; each halves the error, so about 10 are made


@dataclass(frozen=True)
class Unmixed:
    """Estimated private images, in no particular order.

    Attributes:
        images: float32 ``[n, channels, height, width]``, pixels in [0, 1].
        labels: int64 ``[n]``, or ``None`` if the mixtures have no labels.
        assignment: bool ``[T, n]``, True for the k images in each mixture.
        residual: Root mean square of the mixtures minus their explanation, in units of the pixel
            range. It is near the noise on success, and near 0 with too few mixtures.
    """

    images: Tensor = field(repr=False)
    labels: Tensor | None = field(repr=False)
    assignment: Tensor = field(repr=False)
    residual: float


def unmix(
    mixed: Tensor,
    labels: Tensor | None,
    *,
    count: int,
    k: int,
    generator: torch.Generator,
    restarts: int = 64,
    iterations: int = 30,
) -> Unmixed:
    """Estimate n images such that every mixture is the equal mean of k of them.

    The method finds images X, pixels in [0, 1], and an assignment A with k ones in each row that
    minimise ``|| mixed - A X / k ||^2``, in turns: the best k-subset for each mixture, then least
    squares. A start comes from whitened mixtures: there the n images are the corners of a regular
    simplex, so only its rotation is unknown, and the best subset is the k largest inner products.
    Labels, where there are any, are more coordinates of an image. For k = 1 all this is k-means:
    noise on a frozen set of images averages out.

    It works where the mixtures outnumber the images several times, each image is in about equally
    many, and noise and rebuild error stay below the spread of the images divided by k. Error that
    all mixtures share, such as blur, does not average out. With fewer mixtures than images many
    answers fit, whatever the residual says. With ``2 k = n``, mixtures also fit mirror images
    (2 mean - X, all subsets complemented), which only the range of pixels and labels rules out.
    The count of the client's images is an assumption (Knowledge), so a result is diagnostic: it
    shows what could leak to a server that knows as much.

    Args:
        mixed: float ``[T, channels, height, width]``, pixels in [0, 1].
        labels: float ``[T, classes]``, mean of the one-hot labels in each mixture, or ``None``.
        count: Number n of images of the client, above k (or 1).
        k: Number of different images in a mixture.
        generator: CPU generator of the starts.
        restarts: Number of random rotations tried; the best few are refined.
        iterations: Largest number of turns of assignment and least squares.

    Returns:
        The result with the smallest residual, including labels.

    Raises:
        ValueError: If shapes do not fit, or k and the count leave nothing to find.

    Example:
        >>> images = torch.eye(4).view(4, 1, 2, 2)
        >>> found = unmix(
        ...     images.repeat(5, 1, 1, 1), None, count=4, k=1, generator=torch.Generator()
        ... )
        >>> found.images.flatten(1).sum(0).round(decimals=2)
        tensor([1., 1., 1., 1.])
    """
    _check(mixed, labels, count, k)
    if restarts < 1 or iterations < 1:
        raise ValueError("unmix needs at least one restart and one iteration")
    pixels = mixed.double().flatten(1)
    weight = 0.0 if labels is None else _label_weight(pixels, labels.double())
    points = pixels
    if labels is not None:
        points = torch.cat([pixels, weight * labels.double()], dim=1)
    top = points.new_ones(points.shape[1])
    top[pixels.shape[1] :] = weight

    starts = _starts(points, count, k, restarts, generator)
    ends = [_refine(points, start, top, k, iterations) for start in starts]
    images, assignment = min(ends, key=lambda end: _cost(points, end[0], end[1], k))
    found, classes = images.tensor_split([pixels.shape[1]], dim=1)
    return Unmixed(
        images=found.float().view(count, *mixed.shape[1:]),
        labels=None if labels is None else classes.argmax(1),
        assignment=assignment,
        residual=float((pixels - assignment.double() @ found / k).square().mean().sqrt()),
    )


def unmix_given(mixed: Tensor, assignment: Tensor, *, k: int) -> Tensor:
    """Images for a known assignment to mixtures, which is an upper bound for ``unmix``.

    Least squares with pixels in [0, 1]; the result for an image in no mixture is their mean.

    Args:
        mixed: float ``[T, channels, height, width]``, pixels in [0, 1].
        assignment: bool ``[T, n]``, k true in each row.
        k: Images in a mixture.

    Returns:
        float32 ``[n, channels, height, width]``, pixels in [0, 1].

    Raises:
        ValueError: If the shapes do not fit, or a row has not k images.
    """
    if assignment.ndim != 2 or len(assignment) != len(mixed):
        raise ValueError(
            f"{len(mixed)} mixtures need an assignment [{len(mixed)}, n], "
            f"but it is {list(assignment.shape)}"
        )
    if not bool((assignment.sum(1) == k).all()):
        raise ValueError(f"every mixture must have exactly k = {k} images")
    points = mixed.double().flatten(1)
    images = _regress(points, assignment, points.new_ones(points.shape[1]), k)
    return images.float().view(-1, *mixed.shape[1:])


def _check(mixed: Tensor, labels: Tensor | None, count: int, k: int) -> None:
    if mixed.ndim != 4 or not len(mixed):
        raise ValueError(
            f"mixtures must be [T, channels, height, width], but are {list(mixed.shape)}"
        )
    if labels is not None and (labels.ndim != 2 or len(labels) != len(mixed)):
        raise ValueError(
            f"labels of {len(mixed)} mixtures must be [{len(mixed)}, classes], "
            f"but are {list(labels.shape)}"
        )
    if not bool(mixed.isfinite().all()):
        raise ValueError("a mixture has pixels that are not finite")
    if not 1 <= k <= count:
        raise ValueError(f"k = {k} different images cannot be drawn from {count}")
    if k == count > 1:
        raise ValueError(
            f"every mixture is the mean of all {count} images, so they cannot be separated"
        )


def _label_weight(pixels: Tensor, labels: Tensor) -> float:
    """Scale at which labels vary as much between mixtures as all pixels together."""
    spread = float(labels.var(0, correction=0).sum())
    return math.sqrt(float(pixels.var(0, correction=0).sum()) / spread) if spread > 0 else 0.0


def _starts(
    points: Tensor, count: int, k: int, restarts: int, generator: torch.Generator
) -> list[Tensor]:
    """Assignments to start from, bool ``[T, n]`` each, most promising first.

    With subsets drawn evenly, A - k/n has equal variance along all directions that sum to zero, so
    the whitened mixtures are those of a regular simplex. Maximising tr(A^T Z Q^T V^T), with V its
    corners, over A (the k largest) and the rotation Q (Procrustes) by turns never goes down.
    """
    whitened = _whiten(points, count)
    corners = _simplex(count).to(points)
    seeds = torch.randn(
        restarts, count - 1, whitened.shape[1], generator=generator, dtype=torch.float64
    )
    rotations = _nearest_rotation(seeds.to(points.device))
    value = points.new_full((restarts,), -math.inf)
    for _ in range(_ROTATIONS):
        scores = whitened @ rotations.mT @ corners.T
        chosen = torch.zeros_like(scores, dtype=torch.bool)
        chosen.scatter_(2, scores.topk(k, dim=2).indices, True)
        before, value = value, (scores * chosen).sum((1, 2))
        if bool((value <= before * (1 + 1e-9)).all()):
            break
        rotations = _nearest_rotation(corners.T @ (chosen.double().mT @ whitened))
    starts: list[Tensor] = []
    last = math.inf
    for place in value.argsort(descending=True).tolist():
        # Many starts end at the same place, up to the order of the images.
        if float(value[place]) < last - 1e-6 * abs(last) or not starts:
            starts.append(chosen[place])
            last = float(value[place])
        if len(starts) == _FINALISTS:
            break
    return [s for start in starts for s in ([start, ~start] if 2 * k == count else [start])]


def _whiten(points: Tensor, count: int) -> Tensor:
    """Mixtures in the n - 1 directions where images can lie, of about equal variance."""
    centred = points - points.mean(0)
    directions, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    variance = singular.square()
    signal, rest = variance.tensor_split([min(count - 1, len(variance))])
    # Beyond n - 1 directions there is only noise. Weak directions count less (Wiener), as equal
    # variance would blow up their noise.
    noise = float(rest.mean()) if len(rest) else 0.0
    kept = (signal - noise).clamp(min=0).sqrt() / signal.sqrt().clamp(min=1e-9)
    whitened: Tensor = directions[:, : len(signal)] * kept
    return whitened


def _simplex(count: int) -> Tensor:
    """Corners of a regular simplex around the origin, ``[n, n - 1]``, with V^T V = 1."""
    centred = torch.eye(count, dtype=torch.float64) - 1 / count
    corners: Tensor = torch.linalg.eigh(centred).eigenvectors[:, 1:]  # the first is constant
    return corners


def _nearest_rotation(matrices: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    rotation: Tensor = left @ right
    return rotation


def _refine(
    points: Tensor, assignment: Tensor, top: Tensor, k: int, iterations: int
) -> tuple[Tensor, Tensor]:
    """Images and assignment by turns until the assignment stands still."""
    images = _regress(points, assignment, top, k)
    for _ in range(iterations):
        before, assignment = assignment, _assign(points, images, assignment, k)
        if bool((assignment == before).all()):
            break
        images = _regress(points, assignment, top, k)
    return images, assignment


def _cost(points: Tensor, images: Tensor, assignment: Tensor, k: int) -> float:
    return float((points - assignment.double() @ images / k).square().sum())


def _regress(points: Tensor, assignment: Tensor, top: Tensor, k: int) -> Tensor:
    """Ridge least squares of ``k points = assignment images`` with ``0 <= images <= top``.

    Coordinate descent, exact for each image in turn with the others fixed, from the clamped
    solution without the box.
    """
    ones = assignment.double()
    gram = ones.T @ ones + RIDGE * torch.eye(ones.shape[1]).to(ones)
    target = k * (ones.T @ points) + RIDGE * points.mean(0)
    images: Tensor = torch.linalg.solve(gram, target).clamp(min=0).minimum(top)
    for _ in range(_SWEEPS):
        before = images.clone()
        for j in range(len(images)):
            step = (target[j] - gram[j] @ images) / gram[j, j]
            images[j] = (images[j] + step).clamp(min=0).minimum(top)
        if float((images - before).abs().max()) < 1e-4:  # far below a grey level, 1/255
            break
    return images


def _assign(points: Tensor, images: Tensor, assignment: Tensor, k: int) -> Tensor:
    """The k-subset of images whose mean is nearest to each point, bool ``[T, n]``."""
    count = len(images)
    if math.comb(count, k) <= _EXHAUSTIVE:
        subsets = torch.tensor(list(combinations(range(count), k)), device=images.device)
        means = images[subsets].mean(1)
        costs = means.square().sum(1) - 2 * points @ means.T
        chosen = torch.zeros_like(assignment)
        return chosen.scatter_(1, subsets[costs.argmin(1)], True)
    return _swap(points, images, assignment, k)


def _swap(points: Tensor, images: Tensor, assignment: Tensor, k: int) -> Tensor:
    """Exchange one member at a time, always the best exchange, until none helps.

    With s the sum over a subset, exchanging i for j changes ``||k m - s||^2`` by
    ``2 (s - k m) . (x_j - x_i) + ||x_j - x_i||^2``.
    """
    assignment = assignment.clone()
    rows = torch.arange(len(points), device=points.device)
    apart = (images.unsqueeze(1) - images).square().sum(2)
    for _ in range(4 * k):  # k exchanges reach any subset; more are rarely of use
        members = assignment.double().topk(k, dim=1).indices
        slope = 2 * (assignment.double() @ images - k * points) @ images.T
        change = slope.unsqueeze(1) - slope.gather(1, members).unsqueeze(2) + apart[members]
        change = change.masked_fill(assignment.unsqueeze(1), math.inf)
        least, place = change.flatten(1).min(1)
        helps = least < -1e-12
        if not bool(helps.any()):
            break
        out, into = members[rows, place // len(images)], place % len(images)
        assignment[rows[helps], out[helps]] = False
        assignment[rows[helps], into[helps]] = True
    return assignment
