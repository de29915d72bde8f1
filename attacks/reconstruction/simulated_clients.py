"""Simulated clients on other images, with whose updates a captured one is compared."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from attacks.knowledge import PublicImages
from attacks.reconstruction.problem import Problem

DRAWS = 6
"""Number of simulated clients with which the length of an update is compared."""

FACTOR, KNOWN_FACTOR = 3.0, 2.0
"""Least ratio between the length of an update and the longest or shortest simulated one that is
reported, with noise and with public images."""

SPREADS = 3.0
"""Least distance from them in standard deviations of the simulated logarithms of lengths."""

UNDECIDED = 0.25
"""Largest mean confidence on surrogate images at which a network counts as untrained, so that no
image of the client can have a gradient near 0."""

EASIEST = 64
"""Number of public images among which those that the network knows best are looked for."""


def length(problem: Problem, generator: torch.Generator) -> str | None:
    """Whether the update is as long as those of simulated clients with other images.

    Images under random labels have the longest gradients. The shortest belong to images that the
    network knows, so an update is called too short only beside public images with their own labels,
    the best known ones among them, or where the network is sure of nothing.

    Args:
        problem: The payload and what is known about it; its network is in the client's mode.
        generator: CPU generator of images and labels.

    Returns:
        A sentence if it is not; ``None`` if it is, or nothing can be said.
    """
    if problem.limits is not None:  # an undone step of Adam, which has no length of its own
        return None
    public = problem.knowledge.public
    captured = float(vector(problem.target).norm().log())
    draws = [surrogates(problem, generator) for _ in range(DRAWS)]
    lengths = torch.stack([_log_length(problem, *each) for each in draws])
    above, below = captured - float(lengths.max()), captured - float(lengths.min())
    if below < 0 and public is not None and public.labels is not None:
        draws = [surrogates(problem, generator, own_labels=True) for _ in range(DRAWS)]
        lengths = torch.stack([_log_length(problem, *each) for each in draws])
        easiest = _log_length(problem, *_easiest(problem, public))
        below = captured - min(float(lengths.min()), float(easiest))
    elif (
        sum(float(_outputs(problem, each[0]).amax(1).mean()) for each in draws) > UNDECIDED * DRAWS
    ):
        below = 0.0
    slack = max(
        math.log(FACTOR if public is None else KNOWN_FACTOR), SPREADS * float(lengths.std())
    )
    if not (above > slack or below < -slack):  # NaN as well
        return None
    return (
        f"the update is {math.exp(captured - float(lengths.median())):.2g} times as long as those "
        f"of simulated clients with {stated(problem)}: the learning rate, the number of steps or "
        "images, or the optimiser is probably another; an attack that compares directions still "
        "works for one step, and misjudges several"
    )


def surrogates(
    problem: Problem, generator: torch.Generator, *, own_labels: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw as many images and labels as the client has: public images, or smooth noise.

    Args:
        problem: The payload and what is known about it.
        generator: CPU generator of images and labels.
        own_labels: Public images with their own labels, which must be known; otherwise the
            client's labels where they are known, and random ones where they are not.

    Returns:
        Normalised images ``[n, channels, height, width]``, and labels.
    """
    known = problem.knowledge
    count, public = known.num_images, known.public
    labels = torch.randint(known.num_classes, (count,), generator=generator)
    if public is None:
        channels, height, width = known.image_shape
        coarse = (count, channels, max(2, height // 4), max(2, width // 4))
        pixels = functional.interpolate(
            torch.rand(coarse, generator=generator), size=(height, width), mode="bilinear"
        )
    else:
        places = torch.randint(len(public.images), (count,), generator=generator)
        pixels = public.images[places]
        if own_labels and public.labels is not None:
            labels = public.labels[places]
    if known.labels is not None and not own_labels:
        labels = known.labels
    return problem.normalise(pixels), labels.to(problem.device)


def stated(problem: Problem) -> str:
    """The local training that was stated, in words."""
    local, steps = problem.knowledge.local, len(problem.blocks)
    if problem.payload.kind == "gradient" or local is None:
        return "a plain gradient"
    return f"{local.optimiser}, learning rate {local.lr:g} and {steps} local step{'s'[: steps > 1]}"


def vector(tensors: Mapping[str, Tensor]) -> Tensor:
    """All entries, as one vector in float64, because fourth powers of small ones underflow."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors.values()]).double()


def _log_length(problem: Problem, images: Tensor, labels: Tensor) -> Tensor:
    return torch.log(vector(problem.simulate(images, labels, create_graph=False)).norm())


def _easiest(problem: Problem, public: PublicImages) -> tuple[Tensor, Tensor]:
    """The public images of least loss, as many as the client has or there are."""
    images = problem.normalise(public.images[:EASIEST])
    labels = torch.as_tensor(public.labels)[:EASIEST].to(problem.device)
    right = _outputs(problem, images).gather(1, labels.unsqueeze(1)).squeeze(1)
    places = right.argsort(descending=True)[: problem.knowledge.num_images]
    missing = problem.knowledge.num_images - len(places)
    places = torch.cat([places, places[:1].expand(missing)])
    return images[places], labels[places]


def _outputs(problem: Problem, images: Tensor) -> Tensor:
    """Softmax outputs, float ``[n, classes]``."""
    state = {**problem.parameters, **{n: b.clone() for n, b in problem.buffers.items()}}
    with torch.no_grad():
        output: Tensor = functional_call(problem.model, state, (images,))
    return output.softmax(1)
