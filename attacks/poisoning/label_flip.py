"""Training under wrong labels: all turned round, some classes taken for others, or at random."""

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
    """The wrong label of every image.

    Args:
        labels: int64 ``[n]``.
        num_classes: C.
        source: With ``target``: one pair, beside ``pairs``.
        target: The label that images of ``source`` get.
        pairs: Sources and targets. With any pair at all only the sources are relabelled, at once,
            so that two classes can be swapped; otherwise y becomes C - 1 - y.

    Returns:
        int64 ``[n]``; a label that no pair concerns stays.

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
        raise ValueError(f"a class can be taken for one other only: {taken}")
    beyond = [c for pair in taken for c in pair if not 0 <= c < num_classes]
    if beyond:
        raise ValueError(f"class {beyond[0]} is not one of 0 to {num_classes - 1}")
    table = torch.tensor([becomes.get(label, label) for label in range(num_classes)])
    return table.to(labels.device)[labels]


def random_flip(labels: Tensor, *, num_classes: int, generator: torch.Generator) -> Tensor:
    """A label other than its own for every image, uniformly among the C - 1 others.

    No trained model can be expected to give just these labels again, so there is no success rate
    to measure; what such labels cost is accuracy.

    Args:
        labels: int64 ``[n]``.
        num_classes: C.
        generator: CPU generator of the labels.

    Returns:
        int64 ``[n]``.

    Raises:
        ValueError: If there is one class only.
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
    """The labels with a share of those concerned flipped.

    Args:
        labels: int64 ``[n]``.
        num_classes: C.
        share: In (0, 1], of the images whose label would change.
        source: See ``flip``.
        target: See ``flip``.
        pairs: See ``flip``.
        random: Whether each chosen image gets a random wrong label, see ``random_flip``; not
            together with pairs.
        generator: CPU generator that chooses the images, and their labels if they are random.

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
