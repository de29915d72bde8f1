"""MetaPoison: clean-label poisons made by looking a few training steps ahead.

Huang, Geiping, Fowl, Taylor, Goldstein, "MetaPoison: Practical General-purpose Clean-label Data
Poisoning" (arXiv 2004.00225, NeurIPS 2020), algorithm 1, and their public code.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks.poisoning.ensemble import Ensemble, Staggered, Start
from attacks.poisoning.meta_loss import LOSSES, meta_loss
from attacks.poisoning.meta_settings import MetaPoisoning
from attacks.poisoning.perturbation import Perturbation
from attacks.poisoning.pixel_levels import WHITE


@dataclass(frozen=True)
class MetaPoisoned:
    """What MetaPoison made.

    Attributes:
        images: uint8 ``[p, channels, height, width]``.
        labels: int64 ``[p]``, those that the images had.
        places: int64 ``[p]``, where they belong.
        losses: float ``[crafts]``, adversarial loss of the surrogates when looking ahead.
        before: float ``[crafts]``, that of the same surrogates without a step.
    """

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    places: Tensor = field(repr=False)
    losses: Tensor = field(repr=False)
    before: Tensor = field(repr=False)

    def into(self, images: Tensor) -> Tensor:
        """A copy of the training images with the poisons in their places."""
        poisoned = images.clone()
        poisoned[self.places] = self.images
        return poisoned


def meta_poison(
    start: Start,
    images: Tensor,
    labels: Tensor,
    *,
    places: Tensor,
    targets: Tensor,
    intended: Tensor,
    settings: MetaPoisoning,
    generator: torch.Generator,
) -> MetaPoisoned:
    """Poisons after which a network trained on the images takes the targets for what is intended.

    Args:
        start: Gives a freshly initialised surrogate for each number.
        images: uint8 ``[n, channels, height, width]``, the victim's training images.
        labels: int64 ``[n]``.
        places: int64 ``[p]``, which of the images may be changed; their labels stay.
        targets: uint8 ``[t, channels, height, width]``; not changed.
        intended: int64 ``[t]``, what they shall be taken for.
        settings: See there.
        generator: CPU generator. Surrogates' training has its own, drawn from it at the start, so
            that it does not depend on the other settings.

    Returns:
        The poisons and how the loss went.

    Raises:
        ValueError: If there are no poisons or no targets, or all images are poisons.
    """
    apart = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    ensemble = Staggered(
        start,
        images.float() / WHITE,
        labels,
        models=settings.models,
        epochs=settings.epochs,
        local=settings.local,
        advance=settings.advance,
        staggered=settings.staggered,
        generator=apart,
    )
    return craft(
        ensemble,
        images,
        labels,
        places=places,
        targets=targets,
        intended=intended,
        settings=settings,
        generator=generator,
    )


def craft(
    ensemble: Ensemble,
    images: Tensor,
    labels: Tensor,
    *,
    places: Tensor,
    targets: Tensor,
    intended: Tensor,
    settings: MetaPoisoning,
    generator: torch.Generator,
) -> MetaPoisoned:
    """As ``meta_poison``, against an ensemble that is there already.

    ``settings`` then say nothing of the ensemble's own training; see ``Recorded`` for one that
    serves several targets.
    """
    if not len(places) or not len(targets) or len(places) >= len(images):
        raise ValueError("MetaPoison needs at least one poison, one target and one clean image")
    places = places.to(images.device)
    pixels = images.float() / WHITE
    perturbation = Perturbation(
        images[places],
        epsilon=settings.epsilon,
        colour=settings.colour,
        signed=settings.signed,
        generator=generator,
    )
    clean = torch.ones(len(images), dtype=torch.bool, device=images.device)
    clean[places] = False
    aim = _Aim(
        pixels,
        labels,
        poison_labels=labels[places],
        clean=clean.nonzero().squeeze(1),
        targets=targets.float() / WHITE,
        intended=intended,
        settings=settings,
        generator=generator,
    )
    losses, before = torch.zeros(settings.crafts), torch.zeros(settings.crafts)
    for step in range(settings.crafts):
        if step:
            seen = pixels
            if settings.trajectory == "poisoned":
                seen = pixels.index_copy(0, places, perturbation.pixels().detach())
            ensemble.advance(seen)
        poisons = perturbation.pixels()
        gradient, losses[step], before[step] = aim.gradient(ensemble, poisons.detach())
        perturbation.move(poisons, gradient, rate=settings.rate_at(step))
    return MetaPoisoned(perturbation.rounded(), labels[places], places, losses, before)


@dataclass(frozen=True)
class _Aim:
    """What stays the same over all craft steps."""

    pixels: Tensor
    labels: Tensor
    poison_labels: Tensor
    clean: Tensor
    targets: Tensor
    intended: Tensor
    settings: MetaPoisoning
    generator: torch.Generator

    def gradient(self, ensemble: Ensemble, poisons: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean over the ensemble of the meta-gradient, and of the losses ahead and before."""
        total = torch.zeros_like(poisons)
        ahead: list[Tensor] = []
        before: list[Tensor] = []
        for surrogate in ensemble.surrogates:
            with torch.no_grad():
                said = surrogate.logits(self.targets)
                before.append(LOSSES[self.settings.loss](said, self.intended))
            order = torch.randperm(len(poisons), generator=self.generator).to(poisons.device)
            groups = torch.split(order, self.settings.poisons_per_batch)[: self.settings.looks]
            for group in groups:
                leaf = poisons[group].requires_grad_()
                clean = self._clean(self.settings.batch_size - len(group))
                loss = meta_loss(
                    surrogate,
                    leaf,
                    self.poison_labels[group],
                    self.pixels[clean],
                    self.labels[clean],
                    self.targets,
                    self.intended,
                    lr=self.settings.lr,
                    weight_decay=self.settings.weight_decay,
                    loss=self.settings.loss,
                    first_only=self.settings.first_only,
                    every_step=self.settings.every_step,
                )
                total[group] += torch.autograd.grad(loss, leaf)[0]
                ahead.append(loss.detach())
        return total / len(before), torch.stack(ahead).mean(), torch.stack(before).mean()

    def _clean(self, size: int) -> Tensor:
        """Places of clean images for each step ahead, ``[K, size]``."""
        shape = (self.settings.unrolled, size)
        drawn = torch.randint(len(self.clean), shape, generator=self.generator)
        return self.clean[drawn.to(self.clean.device)]
