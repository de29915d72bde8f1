"""Is a linear classifier inside of a ReLU network a minimum that training does not leave?

Construction and checks of Goldblum et al. (arXiv 1910.00359), on ten principal components of the
images. With more inputs a line nearly tells some class apart, and the weights of the best linear
classifier are beyond use.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.report import Claim, Figure
from benchmarks.theory_runs import IMAGES, Bench, Measured
from fedlab.core.seeds import generator
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.evaluation.curvature import curvature
from fedlab.models.linear_embedding import embed_linear

SIDE, COMPONENTS, HIDDEN, SHIFT = 7, 10, 3, 10.0
"""Side in pixels, number of components, hidden layers, and what the first of these adds."""
STEPS, RATE = 1_000, 3e-3
"""Full-batch steps from the minimum and from the usual start, and the rate of Adam."""
NEWTON = 40
"""Steps to the best linear classifier."""
PUSH = 1e-3
"""Standard deviation of the noise on every weight that pushes the network off the minimum."""


def minima(bench: Bench) -> tuple[list[Figure], list[Claim]]:
    """Construct the minimum, check it, train on from it, and train from the usual start."""
    data = load(f"npz:{bench.source}")
    runs = bench.each("minimum", lambda seed: _measured(data, seed))

    def values(name: str) -> list[float]:
        return [run[name][0] for run in runs]

    before = values("loss")
    moved = max(abs(a - b) for a, b in zip(before, values("loss, trained on"), strict=True))
    ahead = min(a - b for a, b in zip(before, values("loss, usual start"), strict=True))
    steep, low = max(values("gradient norm")), min(values("smallest eigenvalue"))
    return bench.figures({"minimum": runs}), [
        Claim(
            f"minimum: gradient norm at most {steep:.1e}, smallest eigenvalue at least {low:.1e}, "
            f"{STEPS:,} steps from it change the loss by at most {moved:.1e}",
            steep < 1e-5 and low > -1e-4 and moved < 1e-3,
        ),
        Claim(
            f"minimum: the usual start ends at a loss that is lower by at least {ahead:.2f}",
            ahead > 0.05,
        ),
    ]


def _measured(data: ImageData, seed: int) -> Measured:
    order = torch.randperm(len(data.train_labels), generator=generator(seed, "minimum"))[:IMAGES]
    components = _components(data, data.train_images[order])
    inputs, labels = components(data.train_images[order]), data.train_labels[order]
    test = components(data.test_images), data.test_labels
    linear = _best_linear(inputs, labels, data.num_classes)
    stuck = embed_linear(linear.weight, linear.bias, hidden=HIDDEN, shift=SHIFT)
    found = curvature(stuck, inputs, labels, generator=generator(seed, "curvature"))
    torch.manual_seed(seed)
    usual = copy.deepcopy(stuck)
    for layer in usual:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    embedded = _accuracy(stuck, *test)
    with torch.no_grad():
        for parameter in stuck.parameters():
            parameter += PUSH * torch.randn(parameter.shape, dtype=parameter.dtype)
    # Gradient descent is stable for rates below two over the largest eigenvalue.
    descent = torch.optim.SGD(stuck.parameters(), lr=1 / found.largest)
    trained_on = _train(stuck, descent, inputs, labels)
    adam = torch.optim.Adam(usual.parameters(), lr=RATE)
    from_usual = _train(usual, adam, inputs, labels)
    scores = {
        "gradient norm": found.gradient_norm,
        "smallest eigenvalue": found.smallest,
        "largest eigenvalue": found.largest,
        "loss": found.loss,
        "loss, trained on": trained_on,
        "loss, usual start": from_usual,
        "accuracy": embedded,
        "accuracy, trained on": _accuracy(stuck, *test),
        "accuracy, usual start": _accuracy(usual, *test),
    }
    return {name: [value] for name, value in scores.items()}


def _components(data: ImageData, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Map from uint8 images to their principal components of variance 1 in the given images."""

    def flat(images: Tensor) -> Tensor:
        inputs = data.normalise(data.pixels(images)).double()
        return functional.adaptive_avg_pool2d(inputs, SIDE).flatten(1)

    rows = flat(images)
    variances, axes = torch.linalg.eigh(rows.T.cov())
    scaled = axes[:, -COMPONENTS:] / variances[-COMPONENTS:].sqrt()
    mean = rows.mean(0)
    return lambda images: (flat(images) - mean) @ scaled


def _best_linear(inputs: Tensor, labels: Tensor, classes: int) -> nn.Linear:
    """The linear classifier with the smallest loss, by Newton's method with shortened steps."""
    rows = functional.pad(inputs, (0, 1), value=1.0)  # the last column is the bias
    wanted = functional.one_hot(labels, classes).to(rows)
    weights = rows.new_zeros(classes, rows.shape[1])

    def loss(weights: Tensor) -> Tensor:
        return functional.cross_entropy(rows @ weights.T, labels)

    for _ in range(NEWTON):
        shares = (rows @ weights.T).softmax(1)
        gradient = (shares - wanted).T @ rows / len(rows)
        spread = torch.diag_embed(shares) - shares.unsqueeze(2) * shares.unsqueeze(1)
        hessian = torch.einsum("nab,ni,nj->aibj", spread, rows, rows) / len(rows)
        matrix = hessian.reshape(gradient.numel(), gradient.numel())
        # Singular along equal weights of all classes, which softmax ignores.
        inverse = torch.linalg.pinv(matrix, rtol=1e-13, hermitian=True)
        step = (inverse @ gradient.flatten()).view_as(weights)
        while step.norm() > 1e-12 * weights.norm() and loss(weights - step) > loss(weights):
            step = step / 2
        weights = weights - step
    linear = nn.Linear(rows.shape[1] - 1, classes).double()
    with torch.no_grad():
        linear.weight.copy_(weights[:, :-1])
        linear.bias.copy_(weights[:, -1])
    return linear


def _train(
    network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor
) -> float:
    """Train a network on all images at once, and return its last loss."""
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
    return loss.item()


def _accuracy(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((network(inputs).argmax(1) == labels).double().mean())
