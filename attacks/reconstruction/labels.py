"""Rules that infer labels from the gradient of the last layer, published ones and our own.

With mean cross-entropy this gradient is the sum over the batch of softmax outputs minus labels. The
rules differ in their assumptions about the outputs and the last features, which are unknown.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from attacks.reconstruction.components import LABEL_RULES, name_of
from attacks.reconstruction.label_factors import factorise, misfit
from attacks.reconstruction.output_layer import (
    LabelRule,
    NothingToInfer,
    OutputLayer,
    Outputs,
    repeated,
    whole,
)

logger = logging.getLogger(__name__)

TRIED = ("conditional", "ilrg", "yin", "llg", "counts")
"""Rules that ``auto`` tries on public images; of equally good ones the first is taken."""

TRIALS = 64
"""Number of batches of public images on which ``auto`` tries each rule."""


def infer_labels(
    gradient: Mapping[str, Tensor],
    *,
    num_images: int,
    probabilities: Tensor,
    rule: str | LabelRule = "auto",
) -> Tensor:
    """Infer the labels of a batch from its gradient alone.

    Args:
        gradient: Gradient by parameter name, in the order of the layers, so that the last tensors
            are weight and bias (if any) of the classifier. For a weight update, the update divided
            by minus the learning rate and by the number of steps.
        num_images: Number of images B in the batch, at least 1.
        probabilities: float ``[classes]``, expected softmax output of an image. ``counts`` and
            ``mixed`` are exact if it is the true mean over the batch, and estimates otherwise.
        rule: Label rule, or its name, a key of ``LABEL_RULES``.

    Returns:
        int64 ``[num_images]``, ascending; float32 ``[num_images, classes]`` for ``mixed``. Where
        the gradient says nothing about labels, they are the most probable ones.

    Raises:
        ValueError: If no rule has that name, the last layer is not a classifier of these classes,
            the rule is not for this number of images, or its result does not fit.

    Example:
        >>> sent = {"weight": torch.zeros(3, 2), "bias": torch.tensor([0.3, -0.5, 0.2])}
        >>> infer_labels(sent, num_images=1, probabilities=torch.full((3,), 1 / 3))
        tensor([1])
    """
    layer = output_layer(gradient, len(probabilities))
    return apply_rule(rule, layer, num_images, probabilities)[0]


def apply_rule(
    rule: str | LabelRule, layer: OutputLayer, num_images: int, probabilities: Tensor
) -> tuple[Tensor, str]:
    """Infer the labels of a batch, or guess them where nothing can be inferred.

    Args:
        rule: Label rule, or its name, a key of ``LABEL_RULES``.
        layer: Gradient of the last layer.
        num_images: Number of images in the batch, at least 1.
        probabilities: float ``[classes]``, expected softmax output of an image.

    Returns:
        The labels as in ``infer_labels``, and the reason why they are guessed; empty if they are
        not.

    Raises:
        ValueError: As in ``infer_labels``.
    """
    LABEL_RULES.check(rule)
    if num_images < 1:
        raise ValueError("there is no label to infer: num_images is 0")
    try:
        labels = LABEL_RULES.resolve(rule)(layer, num_images, probabilities)
    except NothingToInfer as error:
        logger.warning("the labels are guessed: %s", error)
        return _guess(rule, layer, num_images, probabilities), str(error)
    if len(labels) != num_images:
        raise ValueError(
            f"label rule {name_of(rule)} returned {len(labels)} labels for {num_images} images"
        )
    return labels, ""


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
    return torch.stack([whole(k * row, k) for row in labels]).to(labels.dtype) / k


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


def idlg(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Take the class with the smallest gradient (iDLG, Zhao et al., arXiv 2001.02610).

    For one image the true class is the only one whose output bias has a negative gradient. The
    same holds for its row of the output weights if the last features are not negative, as they
    are after a ReLU or sigmoid.

    Raises:
        ValueError: If there is more than one image.
        NothingToInfer: If the gradient is zero or not finite.
    """
    if num_images != 1:
        raise ValueError(
            f'the label rule "idlg" is for one image, not {num_images}: use "auto" or "counts"'
        )
    if not (layer.signal.isfinite().all() and layer.signal.any()):
        raise NothingToInfer("the gradient of the last layer is zero or not finite")
    return layer.signal.argmin().unsqueeze(0)


def counts(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Estimate how often each class occurs in the batch from the bias gradient.

    dL/db_c = (1/B) sum_j (p_jc - 1[y_j = c]) gives n_c = sum_j p_jc - B dL/db_c (cf. Geng et al.,
    arXiv 2110.09074), exact if ``probabilities`` is the true mean output, and a good estimate while
    the outputs are near uniform. A clipped or noisy gradient has the wrong scale for it. Without a
    bias the row sums of the weight gradient are used, divided by the sum of the negative ones: each
    row is p - 1[y] times unknown positive features, so only its relative size is informative.

    Raises:
        NothingToInfer: If no class has a negative gradient.
    """
    expected = probabilities.to(layer.signal)
    least = layer.present(num_images)
    return repeated(whole(num_images * (expected - _scaled(layer)), num_images, least))


def conditional(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Fit whole numbers of images of each class to the bias gradient.

    As ``counts``, but an image of class c is expected to have the mean output m_c of public images
    of that class: minimise ||sum_c n_c (m_c - e_c) - B dL/db|| over whole numbers n_c that sum to
    B, with n_c >= 1 for every class that is certainly present. The search starts at the rounded
    solution of least squares and moves single images to other classes while that helps.

    Raises:
        NothingToInfer: If no class has a negative gradient.
    """
    signal = _scaled(layer).double().cpu()
    outputs = layer.outputs or Outputs(probabilities.unsqueeze(0))
    classes = len(signal)
    effect = outputs.by_class.to(signal) - torch.eye(classes).to(signal)
    found = _least_squares(effect.T, num_images * signal, num_images)
    least = layer.present(num_images).cpu()
    now = whole(found, num_images, least)
    moves = torch.eye(classes, dtype=torch.int64)
    moves = (moves.unsqueeze(0) - moves.unsqueeze(1)).flatten(0, 1)
    while True:
        tried = torch.cat([now.unsqueeze(0), now + moves])
        tried = tried[(tried >= least).all(1)]
        error = misfit(tried, signal, outputs, num_images)
        best = tried[error.argmin()]
        if torch.equal(best, now) or error.min() >= error[0]:
            return repeated(now).to(layer.signal.device)
        now = best


def ilrg(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Solve a linear system for the number of images of each class (iLRG).

    Ma et al., "Instance-wise Batch Label Restoration via Gradients in Federated Learning" (ICLR
    2023). With the feature e_c = (dL/dW_c) / (dL/db_c) and its output p_c = softmax(W e_c + b),
    B dL/db_i = sum_c n_c p_ci - n_i for all i and sum_c n_c = B; the solution by pseudo-inverse is
    rounded. It is exact if all images of a class have the same features, and the outputs of an
    image for other classes are near zero.

    Raises:
        NothingToInfer: If the layer's weights or its bias are unknown, or no class has a negative
            gradient.
    """
    if layer.weight is None or layer.weights is None or layer.bias is None or not layer.has_bias:
        raise NothingToInfer("weights or bias of the last layer are unknown")
    signal = _scaled(layer).double()
    safe = torch.where(signal == 0, torch.inf, signal)
    features = layer.weight.double() / safe.unsqueeze(1)
    output = (features @ layer.weights.double().T + layer.bias.double()).softmax(1)
    effect = output.T - torch.eye(len(signal)).to(signal)
    found = _least_squares(effect, num_images * signal, num_images)
    return repeated(whole(found, num_images, layer.present(num_images)))


def auto(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Use the most reliable rule for the case.

    One image: ``idlg``. A batch of fewer images than classes, without noise, clipping or mixing:
    ``factorise``. Else the rule that finds the labels of most batches of public images, whose
    last-layer gradients the attacker computes with the same weights; ``counts`` without public
    images or their labels.

    Raises:
        NothingToInfer: If the chosen rule cannot infer anything.
    """
    if num_images == 1:
        return idlg(layer, num_images, probabilities)
    if layer.plain:
        try:
            return factorise(layer, num_images, probabilities)
        except NothingToInfer as error:
            logger.debug("the labels are not factorised: %s", error)
    return LABEL_RULES[_best_on_public(layer, num_images)](layer, num_images, probabilities)


def yin(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Take the B classes whose row of the weight gradient has the smallest minimum.

    Yin et al., "See through Gradients" (GradInversion, arXiv 2104.07586), eq. 8. It
    assumes last features that are not negative, and labels that do not repeat in the batch. A class
    that is certainly present comes before all others.

    Raises:
        ValueError: If there are more images than classes.
        NothingToInfer: If there is no weight gradient, or it is not finite.
    """
    classes = len(probabilities)
    if num_images > classes:
        raise ValueError(
            f'the label rule "yin" needs labels that do not repeat, but {num_images} images of '
            f'{classes} classes repeat one: use "auto" or "counts"'
        )
    if layer.weight is None or not layer.weight.isfinite().all():
        raise NothingToInfer("the weight gradient of the last layer is unknown or not finite")
    order = layer.weight.amin(1).argsort(stable=True)
    certain = layer.present(num_images)[order]
    return torch.cat([order[certain], order[~certain]])[:num_images].sort().values


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
        NothingToInfer: If no class has a negative gradient.
    """
    left = layer.signal.clone() if layer.weight is None else layer.weight.sum(1)
    negative = left.clamp(max=0)
    if not left.min() < 0:  # NaN as well
        raise NothingToInfer("no class has a negative gradient, so no label can be inferred")
    impact = (1 + 1 / len(left)) / num_images * negative.sum()
    found = torch.zeros_like(left, dtype=torch.int64)
    # After training there may be more negative classes than images: take the most negative.
    certain = layer.present(num_images)
    order = left.argsort(stable=True)
    order = torch.cat([order[certain[order]], order[~certain[order]]])
    first = order[: min(num_images, int(((negative < 0) | certain).sum()))]
    found[first] += 1
    left[first] -= impact
    for _ in range(num_images - len(first)):
        smallest = left.argmin()
        found[smallest] += 1
        left[smallest] -= impact
    return repeated(found)


def mixed(layer: OutputLayer, num_images: int, probabilities: Tensor) -> Tensor:
    """Estimate soft labels of a client that mixes its images (DP-InstaHide, arXiv 2103.02079).

    The sum of soft labels is sum_j y_jc = sum_j p_jc - B dL/db_c, but it does not determine the
    label of each image: every image gets the mean, clamped at 0 and scaled to a sum of 1. The
    result is exact for one image; see also ``snap_mixture``.

    Raises:
        NothingToInfer: If the layer has no bias, or the estimate is zero for every class.
    """
    if not layer.has_bias:
        raise NothingToInfer("the last layer has no bias")
    total = (num_images * (probabilities - layer.signal)).clamp(min=0)
    if not total.sum() > 0:  # NaN as well
        raise NothingToInfer("the bias gradient exceeds the expected output: no soft label is left")
    return (total / total.sum()).float().expand(num_images, -1).clone()


def _guess(
    rule: str | LabelRule, layer: OutputLayer, num_images: int, probabilities: Tensor
) -> Tensor:
    """The most probable labels without information from the gradient."""
    likely = probabilities.nan_to_num(nan=0.0)
    if name_of(rule) == "mixed":
        return likely.float().expand(num_images, -1).clone()
    finite = bool(layer.signal.isfinite().all())
    return repeated(
        whole(num_images * likely, num_images, layer.present(num_images) if finite else None)
    )


def output_layer(gradient: Mapping[str, Tensor], classes: int) -> OutputLayer:
    """The last layer's part of a gradient.

    Args:
        gradient: Gradient by parameter name, in the order of the layers.
        classes: Number of classes.

    Raises:
        ValueError: If the last layer has another number of outputs.
    """
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


def _scaled(layer: OutputLayer) -> Tensor:
    """The signal at the scale of a bias gradient."""
    signal = layer.signal
    if not (signal.isfinite().all() and signal.min() < 0):
        raise NothingToInfer("no class has a negative gradient")
    return signal if layer.has_bias else signal / signal.clamp(max=0).sum().abs()


def _least_squares(effect: Tensor, wanted: Tensor, total: int) -> Tensor:
    """Solution k of ``effect @ k = wanted`` with the sum ``total``, by pseudo-inverse."""
    system = torch.cat([effect, torch.ones_like(effect[:1])])
    found: Tensor = torch.linalg.pinv(system) @ torch.cat([wanted, wanted.new_tensor([total])])
    return found


def _best_on_public(layer: OutputLayer, num_images: int) -> str:
    """Name of the rule that finds the labels of most batches of public images.

    One half of them makes the batches, the other half gives the expected outputs.
    """
    outputs = layer.outputs
    if outputs is None or not outputs.labelled or outputs.features is None:
        return "counts"
    classes, size = len(layer.signal), len(outputs.labels)
    if size < 2:
        return "conditional"
    generator = torch.Generator().manual_seed(0)  # the same answer each time
    order = torch.randperm(size, generator=generator)
    known, others = outputs.part(order[: size // 2]), outputs.part(order[size // 2 :])
    truth = functional.one_hot(others.labels, classes)
    score = dict.fromkeys(TRIED, 0.0)
    for _ in range(TRIALS):
        some = torch.randint(len(truth), (num_images,), generator=generator)
        batch = _simulated(layer, others.part(some), known, generator)
        wanted = truth[some].sum(0)
        for name in TRIED:
            if name == "yin" and num_images > classes:
                continue
            try:
                found = LABEL_RULES[name](batch, num_images, known.mean)
            except NothingToInfer:
                continue
            shared = torch.minimum(torch.bincount(found.cpu(), minlength=classes), wanted.cpu())
            share = float(shared.sum()) / num_images
            score[name] += (share == 1) + share / (2 * TRIALS)  # the share breaks ties only
    return max(TRIED, key=score.__getitem__)


def _simulated(
    layer: OutputLayer, batch: Outputs, known: Outputs, generator: torch.Generator
) -> OutputLayer:
    """The last layer's gradient of a batch of public images, with the noise of the client's."""
    if batch.features is None:
        return layer
    error = batch.probabilities - functional.one_hot(batch.labels, len(layer.signal))
    weight = error.T @ batch.features / len(error)
    signal = error.mean(0) if layer.has_bias else weight.sum(1)
    if layer.noise:
        noise = torch.randn(len(error.T), weight.shape[1] + 1, generator=generator)
        noise = layer.noise * noise.to(weight)
        weight = weight + noise[:, 1:]
        signal = signal + noise[:, 0] if layer.has_bias else weight.sum(1)
    seen = None if layer.weight is None else weight
    return replace(layer, signal=signal, weight=seen, outputs=known, rounding=0.0)
