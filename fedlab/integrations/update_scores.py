"""Scores of an attack on another federation's update, where its true images are given."""

import math
from dataclasses import asdict, replace
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call

from attacks.privacy_audit.membership import MembershipResult, by_loss_drop, judge
from attacks.reconstruction import Reconstruction, consistency
from fedlab.core.errors import BadInput
from fedlab.core.modes import evaluation
from fedlab.evaluation.leaks import Leak
from fedlab.integrations.external_update import AttackableUpdate
from fedlab.integrations.image_files import Truth
from fedlab.metrics.images import as_pixels
from fedlab.metrics.intervals import binomial_interval
from fedlab.metrics.scores import score_images
from fedlab.metrics.verdict import INCONCLUSIVE, NOT_SHOWN, POWERFUL
from fedlab.results.rows import LeakageRow

LIKE = 0.9
"""Least cosine of an update to that of the true images. Rounding of a step of Adam lowers it."""

NON_MEMBERS = 500
"""Largest number of public images in a membership test."""


def checked_truth(truth: Truth, update: AttackableUpdate) -> tuple[Tensor, Tensor]:
    """Check true images and labels against an update, before an attack that takes minutes.

    Returns:
        Pixels in [0, 1], float32 ``[n, channels, height, width]``, and int64 labels ``[n]``.

    Raises:
        BadInput: If they do not fit the update.
    """
    known = update.knowledge
    images, labels = as_pixels(truth[0]).cpu(), torch.as_tensor(truth[1]).cpu()
    if tuple(images.shape[1:]) != tuple(known.image_shape) or len(images) != len(labels):
        raise BadInput(
            f"true images must be [n, {', '.join(map(str, known.image_shape))}] with n labels, but "
            f"are {[*images.shape]} with {len(labels)}"
        )
    if len(images) != known.num_images:
        raise BadInput(
            f"the reply is of {known.num_images} images, and all of them are needed to score it: "
            f"{len(images)} true ones are given"
        )
    if labels.is_floating_point() or not all(0 <= each < known.num_classes for each in labels):
        raise BadInput(f"labels of true images must be classes from 0 to {known.num_classes - 1}")
    if known.public is not None and known.public.labels is None:
        raise BadInput(
            "the labels of the public images are needed to score: chance is that of a class"
        )
    return images, labels


def measure_training(update: AttackableUpdate) -> tuple[float, Literal[True] | None]:
    """Accuracy of the sent network on public images, and whether it is above a constant's.

    Returns:
        NaN and ``None`` without public images or their labels; ``None`` as well where it is not
        shown to be above, which a network that was trained a little does not show either.
    """
    public = update.knowledge.public
    if public is None or public.labels is None:
        return math.nan, None
    labels = public.labels.cpu()
    with evaluation(update.network), torch.no_grad():
        outputs = [
            functional_call(update.network, _state(update), (_normalised(update, some),))
            for some in torch.split(public.images, 64)
        ]
    accuracy = float((torch.cat(outputs).argmax(1).cpu() == labels).double().mean())
    most_frequent = float(labels.bincount().max()) / len(labels)
    low, _ = binomial_interval(accuracy, len(labels))
    return accuracy, True if low > most_frequent else None


def contradiction(update: AttackableUpdate, images: Tensor, labels: Tensor) -> tuple[str, ...]:
    """Hold the true images against the update, where the order of local steps does not matter.

    Args:
        update: The update, whose network is in any mode.
        images: True images, pixels in [0, 1].
        labels: Their labels.

    Returns:
        A sentence if the stated training on these images gives another update; nothing if it gives
        this one, or nobody can tell.
    """
    known = update.knowledge
    if known.defenses or (known.local and known.local.batch_size < known.num_images):
        return ()
    device = next(update.network.parameters()).device
    inputs, payload = _normalised(update, images), update.payload.to(device)
    found = consistency(update.network, _state(update), payload, known, inputs, labels.to(device))
    if found.cosine >= LIKE:
        return ()
    return (
        f"the stated training on the true images gives another update (cosine {found.cosine:.2f}): "
        "they are not the images behind it, or the training was another one",
    )


def infer_membership(
    update: AttackableUpdate, images: Tensor, labels: Tensor
) -> MembershipResult | None:
    """Tell the true images from public ones by the drop of their loss, and score that.

    Args:
        update: The update, whose network is in any mode.
        images: True images, pixels in [0, 1].
        labels: Their labels.

    Returns:
        ``None`` for a gradient, or without public images and their labels.
    """
    known, payload = update.knowledge, update.payload
    if known.public is None or known.public.labels is None or payload.kind == "gradient":
        return None
    state = _state(update)
    before = {name: state[name] for name in payload.tensors}
    after = {name: tensor.to(before[name].device) for name, tensor in payload.tensors.items()}
    buffers = {name: tensor for name, tensor in state.items() if name not in before}
    others = slice(0, NON_MEMBERS)
    every = torch.cat([images, known.public.images[others].cpu()])
    classes = torch.cat([labels, known.public.labels[others].cpu()])
    inputs = _normalised(update, every)
    with evaluation(update.network):
        scores = by_loss_drop(
            update.network, before, after, buffers, inputs, classes.to(inputs.device)
        )
    return judge(scores[: len(images)], scores[len(images) :])


def _state(update: AttackableUpdate) -> dict[str, Tensor]:
    """What was sent, on the device of the network."""
    device = next(update.network.parameters()).device
    names = update.network.state_dict().keys()
    return {name: tensor.to(device) for name, tensor in update.sent.items() if name in names}


def _normalised(update: AttackableUpdate, images: Tensor) -> Tensor:
    """Images as the client's network takes them, on its device."""
    device = next(update.network.parameters()).device
    mean, std = (
        torch.tensor(values, device=device).view(-1, 1, 1)
        for values in (update.knowledge.mean, update.knowledge.std)
    )
    return (as_pixels(images).to(device) - mean) / std


def unscored(row: LeakageRow, found: Reconstruction) -> Leak:
    """Rows of reconstructed images of which there are no true ones, with the values of ``row``."""
    rebuilt = found.images.cpu()
    rows = tuple(replace(row, image=place) for place in range(len(rebuilt)))
    return Leak(rows, torch.full_like(rebuilt, math.nan), None, rebuilt, found)


def scored(
    row: LeakageRow,
    found: Reconstruction,
    update: AttackableUpdate,
    images: Tensor,
    labels: Tensor,
) -> Leak:
    """Rows of true images and what was rebuilt of them.

    Args:
        row: Row of a table with everything but scores.
        found: Result of the attack.
        update: The update, with public images or without.
        images: True images, pixels in [0, 1].
        labels: Their labels.
    """
    public = update.knowledge.public
    pool = None if public is None or public.labels is None else (public.images, public.labels)
    scores = score_images(found, images, labels=labels, public=pool)
    rows = tuple(
        replace(
            row,
            **asdict(each) | {"verdict": _grade(each.verdict, found), "target": "original"},
        )
        for each in scores.images
    )
    return Leak(rows, images, None, scores.rebuilt.cpu(), found)


def _grade(grade: str, found: Reconstruction) -> str:
    """The grade; an attack on wrong facts, or of unknown or little power, shows nothing."""
    earned = found.power >= POWERFUL and not found.findings
    return INCONCLUSIVE if grade == NOT_SHOWN and not earned else grade
