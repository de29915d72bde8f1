"""Whether a payload fits the stated normalisation, judged by simulated clients on public images.

The inputs of the first layer show in its gradient: for one input of a linear layer, the gradient of
its weights divided by that of its bias is the input (Geiping et al. 2020, arXiv 2003.14053,
proposition 3.1), and for several inputs, or a convolution, it is a weighted mean. Such ratios
depend on the normalisation, and not on the learning rate.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from attacks.knowledge import Knowledge, PublicImages
from attacks.payload import Payload
from attacks.reconstruction.modes import mode
from attacks.reconstruction.problem import Problem

CLIENTS = 32
"""Number of simulated clients for each normalisation."""

LEAST_GAIN, LEAST_DISTANCE = 6.0, 5.0
"""Gain in log-likelihood of another normalisation, and distance from the stated one in standard
deviations, that are reported. Both are large, since an honest client must hardly ever be reported;
many wrong normalisations therefore are not."""

SHRINKAGE = 0.2
"""Weight of the diagonal in the covariance that is estimated from the simulated clients."""

ALIKE = 0.1
"""Difference of mean and deviation, relative to the deviation, below which two normalisations count
as one."""

CLASSES = (1, 2, 4)
"""Numbers of classes of simulated clients, beside all classes: real ones may hold a few."""

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""


def misnormalised(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    *,
    generator: torch.Generator,
) -> tuple[str, ...]:
    """Find signs that the client normalised its images in another common way than stated.

    The common ways are pixels in [0, 1] without a change, a mean and deviation of 0.5, and those of
    the public images. Nothing is said without public images and their labels, under a known
    defense, after Adam, and of networks whose first layer is neither linear nor a convolution, or
    has no bias. A normalisation close to the stated one is mostly missed.

    Args:
        model: The architecture, on the device to compute on; it is not changed.
        global_state: Parameters and buffers that the client started from, by name.
        payload: Gradient or weights that the client sent.
        knowledge: Assumptions of the attacker, with public images like those of the client.
        generator: CPU generator of the simulated clients.

    Returns:
        A whole sentence; none if nothing was noticed.

    Raises:
        ValueError: If network, payload and knowledge do not fit each other.
    """
    public, local = knowledge.public, knowledge.local
    if public is None or public.labels is None or knowledge.defenses:
        return ()
    problem = Problem.of(model, global_state, payload, knowledge)
    captured = _ratios(problem, problem.target)
    if captured is None or (local is not None and local.adaptive):
        return ()
    places = [_places(public.labels, knowledge.num_images, generator) for _ in range(CLIENTS)]
    stated: Normalisation = (knowledge.mean, knowledge.std)
    gpus = [problem.device] if problem.device.type == "cuda" else []
    with mode(model, training=knowledge.training_mode), torch.random.fork_rng(gpus):
        likelihood, distance = _fit(problem, captured, stated, public, places)
        if not distance > LEAST_DISTANCE:
            return ()
        others = [
            (_fit(problem, captured, other, public, places)[0], other)
            for other in _common(public)
            if _differ(stated, other)
        ]
    best, other = max(others, default=(-math.inf, stated))
    if not best > likelihood + LEAST_GAIN:
        return ()
    return (
        f"the first layer moved as for images normalised with {_words(other)}, and not with "
        f"{_words(stated)} as stated: state what the client's transforms.Normalize has, or give "
        "public images that are more like the client's; with a wrong normalisation brightness and "
        "contrast of the images are wrong, if they can be recognised at all",
    )


def _ratios(problem: Problem, change: Mapping[str, Tensor]) -> Tensor | None:
    """Ratios of the first layer's gradients, and to those of later layers, which have no unit.

    ``None`` if the first layer is not as it must be, or does not move.
    """
    names = list(problem.parameters)
    channels, height, width = problem.knowledge.image_shape
    weight, bias = (problem.parameters[name] for name in (*names, names[0])[:2])
    inputs = weight.shape[1:]
    if bias.ndim != 1 or (
        inputs[:1] != (channels,) if weight.ndim == 4 else inputs != (channels * height * width,)
    ):
        return None
    moved, shift = change[names[0]].double(), change[names[1]].double()
    later = [change[name].double().norm() for name in names[2:] if change[name].ndim > 1]
    size = shift.norm()
    if not size > 1e-4 * moved.norm() > 0:  # as before BatchNorm, which undoes a bias
        return None
    rows = moved.view(len(shift), channels, -1)
    mean = rows.mean(2)
    slope = (shift @ mean / size**2).mean()
    found = [
        slope,
        ((rows - mean.unsqueeze(2)).norm() / size).log(),
        ((mean - slope * shift.unsqueeze(1)).norm() / size).log(),
    ]
    if later:
        found += [
            (moved.norm() / later[0]).log(),
            (size / later[0]).log(),
            (moved.norm() / torch.stack(later).norm()).log(),
        ]
    ratios = torch.stack(found).cpu()
    return ratios if torch.isfinite(ratios).all() else None


def _fit(
    problem: Problem,
    captured: Tensor,
    normalisation: Normalisation,
    public: PublicImages,
    places: list[Tensor],
) -> tuple[float, float]:
    """Log-likelihood of captured ratios under a normalisation, and their distance from it.

    The ratios of simulated clients have about a multivariate t distribution, since mean and
    covariance are estimates.
    """
    mean, std = normalisation
    problem = replace(problem, knowledge=replace(problem.knowledge, mean=mean, std=std))
    labels = torch.as_tensor(public.labels)
    found = [
        _ratios(
            problem,
            problem.simulate(
                problem.normalise(public.images[each]),
                labels[each].to(problem.device),
                create_graph=False,
            ),
        )
        for each in places
    ]
    ratios = torch.stack([each for each in found if each is not None] or [captured * torch.nan])
    if len(ratios) < CLIENTS / 2:
        return -math.inf, 0.0
    spread = torch.cov(ratios.T)
    spread = torch.lerp(spread, spread.diag().diag(), SHRINKAGE)
    spread += 1e-9 * torch.eye(len(captured), dtype=spread.dtype)
    off = captured - ratios.mean(0)
    squared = float(off @ torch.linalg.solve(spread, off))
    likelihood = -len(ratios) / 2 * math.log1p(squared / len(ratios))
    return likelihood - float(torch.logdet(spread)) / 2, math.sqrt(squared)


def _places(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Indices of public images for one client, of all classes or of a few."""
    held = torch.unique(labels)
    number = int(torch.randint(2 * len(CLASSES), (1,), generator=generator))
    classes = CLASSES[number] if number < len(CLASSES) else len(held)
    own = held[torch.randperm(len(held), generator=generator)[:classes]]
    choice = torch.isin(labels, own).nonzero().squeeze(1)
    return choice[torch.randint(len(choice), (count,), generator=generator)]


def _common(public: PublicImages) -> Iterator[Normalisation]:
    """Common normalisations."""
    channels = public.images.shape[1]
    yield (0.0,) * channels, (1.0,) * channels
    yield (0.5,) * channels, (0.5,) * channels
    pixels = public.images.transpose(0, 1).flatten(1)
    mean, std = pixels.mean(1).tolist(), pixels.std(1).clamp(min=1e-3).tolist()
    yield tuple(mean), tuple(std)


def _differ(one: Normalisation, other: Normalisation) -> bool:
    return any(
        abs(mean - wanted) > ALIKE * scale or abs(math.log(deviation / scale)) > ALIKE
        for mean, deviation, wanted, scale in zip(*one, *other, strict=True)
    )


def _words(normalisation: Normalisation) -> str:
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in normalisation)
    return f"mean {mean} and std {std}"
