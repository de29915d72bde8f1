"""Label flipping: reversed, pairwise or random wrong labels."""

from collections.abc import Sequence

import torch
from torch import Tensor


def flip(
    labels: Tensor,
    *,
    num_classes: int,
    source: int | None = None,
    target: int | None = None,
    pairs: Sequence[tuple[int, int]] = (),
) -> Tensor:
    """Return the wrong label of every image.

    Args:
        labels: Class of each image, int64 ``[n]``.
        num_classes: Number of classes C.
        source: Class of one pair, in addition to ``pairs``.
        target: Wrong label of images of class ``source``.
        pairs: Pairs of a class and its wrong label. If there is a pair, only its class is
            relabelled, all pairs at once, so that two classes can be swapped; otherwise y becomes
            C - 1 - y.

    Returns:
        Labels, int64 ``[n]``; labels without a pair stay.

    Raises:
        ValueError: If a pair names a class that does not exist, or two have the same source.

    Example:
        >>> flip(torch.tensor([0, 3, 9]), num_classes=10).tolist()
        [9, 6, 0]
        >>> flip(torch.tensor([0, 3, 9]), num_classes=10, pairs=[(3, 9), (9, 3)]).tolist()
        [0, 9, 3]
    """
    taken = list(pairs) if source is None or target is None else [(source, target), *pairs]
    if not taken:
        return num_classes - 1 - labels
    becomes = dict(taken)
    if len(becomes) < len(taken):
        raise ValueError(f"a class can have only one wrong label: {taken}")
    beyond = [c for pair in taken for c in pair if not 0 <= c < num_classes]
    if beyond:
        raise ValueError(f"class {beyond[0]} is not one of 0 to {num_classes - 1}")
    table = torch.tensor([becomes.get(label, label) for label in range(num_classes)])
    return table.to(labels.device)[labels]


def random_flip(labels: Tensor, *, num_classes: int, generator: torch.Generator) -> Tensor:
    """Draw a wrong label for every image, uniformly among the C - 1 others.

    A model cannot reproduce random labels, so there is no success rate; they cost accuracy.

    Args:
        labels: Class of each image, int64 ``[n]``.
        num_classes: Number of classes C.
        generator: CPU generator of the labels.

    Returns:
        int64 ``[n]``.

    Raises:
        ValueError: If there is only one class.
    """
    if num_classes < 2:
        raise ValueError("a random wrong label needs at least two classes")
    ahead = torch.randint(1, num_classes, labels.shape, generator=generator).to(labels.device)
    return (labels + ahead) % num_classes


def label_flip(
    labels: Tensor,
    *,
    num_classes: int,
    share: float,
    source: int | None = None,
    target: int | None = None,
    pairs: Sequence[tuple[int, int]] = (),
    random: bool = False,
    generator: torch.Generator,
) -> Tensor:
    """Flip a share of the labels that would change.

    Args:
        labels: Class of each image, int64 ``[n]``.
        num_classes: Number of classes C.
        share: Share of the images whose label would change, in (0, 1].
        source: See ``flip``.
        target: See ``flip``.
        pairs: See ``flip``.
        random: Give each chosen image a random wrong label, see ``random_flip``; not together with
            pairs.
        generator: CPU generator that chooses the images, and random labels.

    Returns:
        int64 ``[n]``.

    Raises:
        ValueError: See ``flip`` and ``random_flip``.
    """
    if random:
        if source is not None or target is not None or pairs:
            raise ValueError("random wrong labels go to all classes: leave the pairs out")
        wrong = random_flip(labels, num_classes=num_classes, generator=generator)
    else:
        wrong = flip(labels, num_classes=num_classes, source=source, target=target, pairs=pairs)
    concerned = (wrong != labels).nonzero().squeeze(1)
    order = torch.randperm(len(concerned), generator=generator).to(labels.device)
    chosen = concerned[order[: round(share * len(concerned))]]
    flipped = labels.clone()
    flipped[chosen] = wrong[chosen]
    return flipped
