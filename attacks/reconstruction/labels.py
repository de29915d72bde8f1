"""Published rules that infer labels from the gradient of the last layer.

With mean cross-entropy this gradient is the sum over the batch of softmax outputs minus labels. The
rules differ in their assumptions about the outputs and the last features, which are unknown.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.reconstruction.components import LABEL_RULES, name_of


def infer_labels(
    gradient: Mapping[str, Tensor],
    *,
    num_images: int,
    probabilities: Tensor,
    rule: "str | LabelRule" = "auto",
) -> Tensor:
    """Infer the labels of a batch.

    Args:
        gradient: Gradient by parameter name, in the order of the layers, so that the last tensors
            are weight and bias (if any) of the classifier. For a weight update, the update divided
            by minus the learning rate and by the number of steps.
        num_images: Number of images B in the batch, at least 1.
        probabilities: float ``[classes]``, expected softmax output of an image. ``counts`` and
            ``mixed`` are exact if it is the true mean over the batch, and estimates otherwise.
        rule: Label rule, or its name, a key of ``LABEL_RULES``.

    Returns:
        int64 ``[num_images]``, ascending; float32 ``[num_images, classes]`` for ``mixed``.

    Raises:
        ValueError: If no rule has that name, the last layer is not a classifier of these classes,
            the rule cannot work on this gradient or number of images, or its result does not fit.

    Example:
        >>> sent = {"weight": torch.zeros(3, 2), "bias": torch.tensor([0.3, -0.5, 0.2])}
        >>> infer_labels(sent, num_images=1, probabilities=torch.full((3,), 1 / 3))
        tensor([1])
    """
    LABEL_RULES.check(rule)
    if num_images < 1:
        raise ValueError("there is no label to infer: num_images is 0")
    layer = _output_layer(gradient, len(probabilities))
    labels = LABEL_RULES.resolve(rule)(layer, num_images, probabilities)
    if len(labels) != num_images:
        raise ValueError(
            f"label rule {name_of(rule)} returned {len(labels)} labels for {num_images} images"
        )
    return labels


def snap_mixture(labels: Tensor, *, k: int | None) -> Tensor:
    """Move soft labels to the nearest ones that a mixture of k images can have.

    DP-InstaHide (arXiv 2103.02079) mixes k images with weights 1/k, so each entry of a label is a
    multiple of 1/k. The largest remainders are rounded up until the row sums to 1. The mean label
    of B such mixtures is a multiple of 1/(B k): pass B k for it.

    Args:
        labels: float ``[n, classes]``, not negative; each row is moved separately.
        k: Number of images in a mixture, at least 1; ``None`` leaves the labels unchanged.

    Returns:
        float ``[n, classes]`` with rows that sum to 1, or the labels themselves without ``k``.

    Raises:
        ValueError: If ``k`` is below 1.

    Example:
        >>> snap_mixture(torch.tensor([[0.45, 0.35, 0.2]]), k=2)
        tensor([[0.5000, 0.5000, 0.0000]])
    """
    if k is None:
        return labels
    if k < 1:
        raise ValueError(f"a mixture has at least one image, not k = {k}")
    return torch.stack([_whole(k * row, k) for row in labels]).to(labels.dtype) / k


def joint_start(num_images: int, classes: int, generator: torch.Generator) -> Tensor:
    """Draw first logits for soft labels that are optimised together with the images.

    DLG (Zhu et al. 2019, arXiv 1906.08935, algorithm 1) draws them from N(0, 1); their softmax is
    the label of an image.

    Args:
        num_images: Number of rows.
        classes: Number of columns.
        generator: CPU generator of the logits.

    Returns:
        float32 ``[num_images, classes]`` on the CPU.
    """
    return torch.randn(num_images, classes, generator=generator)


@dataclass(frozen=True)
class OutputLayer:
    """Gradient of a classifier's last layer.

    Attributes:
        signal: float ``[classes]``, the bias gradient, or the row sums of the weight gradient.
        has_bias: True if ``signal`` is the bias gradient.
        weight: float ``[classes, features]``, the weight gradient; ``None`` if only a bias exists.
    """

    signal: Tensor
    has_bias: bool
    weight: Tensor | None


LabelRule = Callable[[OutputLayer, int, Tensor], Tensor]
"""Function from the gradient of the last layer, the number of images n and the expected softmax
output ``[classes]`` to labels: int64 ``[n]`` or soft ``[n, classes]``."""


def idlg(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Take the class with the smallest gradient (iDLG, Zhao et al., arXiv 2001.02610).

    For one image the true class is the only one whose output bias has a negative gradient. The
    same holds for its row of the output weights if the last features are not negative, as they
    are after a ReLU or sigmoid.

    Raises:
        ValueError: If there is more than one image.
    """
    if num_images != 1:
        raise ValueError(
            f'the label rule "idlg" is for one image, not {num_images}: use "counts" or "llg"'
        )
    return layer.signal.argmin().unsqueeze(0)


def counts(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Estimate how often each class occurs in the batch from the bias gradient.

    dL/db_c = (1/B) sum_j (p_jc - 1[y_j = c]) gives n_c = sum_j p_jc - B dL/db_c (cf. Geng et al.,
    arXiv 2110.09074), exact if ``probabilities`` is the true mean output, and a good estimate while
    the outputs are near uniform. A clipped or noisy gradient has the wrong scale for it. Without a
    bias the row sums of the weight gradient are used, divided by the sum of the negative ones: each
    row is p - 1[y] times unknown positive features, so only its relative size is informative.

    Raises:
        ValueError: If no class has a negative gradient.
    """
    signal = layer.signal
    if not signal.min() < 0:  # NaN as well
        raise ValueError("no class has a negative gradient, so no label can be inferred")
    if not layer.has_bias:
        signal = signal / signal.clamp(max=0).sum().abs()
    return _repeated(_whole(num_images * (probabilities - signal), num_images))


def auto(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Use the most reliable rule: ``idlg`` for one image, ``counts`` for a batch."""
    return (idlg if num_images == 1 else counts)(layer, num_images, probabilities)


def yin(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Take the B classes whose row of the weight gradient has the smallest minimum.

    Yin et al., "See through Gradients" (GradInversion, arXiv 2104.07586), eq. 8. It
    assumes last features that are not negative, and labels that do not repeat in the batch.

    Raises:
        ValueError: If there are more images than classes, or no weight gradient.
    """
    classes = len(probabilities)
    if num_images > classes:
        raise ValueError(
            f'the label rule "yin" needs labels that do not repeat, but {num_images} images of '
            f'{classes} classes repeat one: use "counts" or "llg"'
        )
    if layer.weight is None:
        raise ValueError('the label rule "yin" needs the weight gradient of the last layer')
    return layer.weight.amin(1).argsort(stable=True)[:num_images].sort().values


def llg(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Take classes one by one, and subtract the impact of an image from the gradient each time.

    Wainakh et al., "User-Level Label Leakage from Gradients in Federated Learning" (arXiv
    2105.09369), without offsets. With g_c the row sums of the weight gradient, an image moves that
    of its class by about m = (1 + 1/C)/B times the sum of negative g_c. Every negative class occurs
    once. Then the class with the smallest g is taken repeatedly, and m subtracted each time. The
    authors' code subtracts it from another class at that second stage.

    The rule assumes last features that are not negative and alike for all images, and outputs that
    are near uniform, so it suits untrained networks.

    Raises:
        ValueError: If no class has a negative gradient.
    """
    left = layer.signal.clone() if layer.weight is None else layer.weight.sum(1)
    negative = left.clamp(max=0)
    if not left.min() < 0:  # NaN as well
        raise ValueError("no class has a negative gradient, so no label can be inferred")
    impact = (1 + 1 / len(left)) / num_images * negative.sum()
    found = torch.zeros_like(left, dtype=torch.int64)
    # After training there may be more negative classes than images: take the most negative.
    first = left.argsort(stable=True)[: min(num_images, int((negative < 0).sum()))]
    found[first] += 1
    left[first] -= impact
    for _ in range(num_images - len(first)):
        smallest = left.argmin()
        found[smallest] += 1
        left[smallest] -= impact
    return _repeated(found)


def mixed(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Estimate soft labels of a client that mixes its images (DP-InstaHide, arXiv 2103.02079).

    The sum of soft labels is sum_j y_jc = sum_j p_jc - B dL/db_c, but it does not determine the
    label of each image: every image gets the mean, clamped at 0 and scaled to a sum of 1. The
    result is exact for one image; see also ``snap_mixture``.

    Raises:
        ValueError: If the layer has no bias, or the estimate is zero for every class.
    """
    if not layer.has_bias:
        raise ValueError('the label rule "mixed" needs a bias in the last layer')
    total = (num_images * (probabilities - layer.signal)).clamp(min=0)
    if not total.sum() > 0:  # NaN as well
        raise ValueError("the bias gradient exceeds the expected output: no soft label is left")
    return (total / total.sum()).float().expand(num_images, -1).clone()


def _output_layer(gradient: Mapping[str, Tensor], classes: int) -> OutputLayer:
    named = list(gradient.items())[-2:]
    name, last = named[-1]
    if len(last) != classes:
        raise ValueError(f"the last layer ({name}) has {len(last)} outputs, not {classes}")
    if last.ndim > 1:
        weight = last.flatten(1)
        return OutputLayer(weight.sum(1), has_bias=False, weight=weight)
    before = named[0][1]
    fits = before.ndim > 1 and len(before) == classes
    return OutputLayer(last, has_bias=True, weight=before.flatten(1) if fits else None)


def _repeated(counts: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def _whole(counts: Tensor, total: int) -> Tensor:
    """Round counts to whole numbers with a given sum, by the largest remainders."""
    positive = counts.clamp(min=0)
    positive = positive * (total / positive.sum().clamp(min=1e-12))
    floors = positive.floor()
    missing = total - int(floors.sum())
    order = (positive - floors).argsort(descending=True, stable=True)
    floors[order[:missing]] += 1
    return floors.long()
