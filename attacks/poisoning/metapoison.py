"""MetaPoison: clean-label poisons crafted through a few unrolled training steps.

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
    """The poisons of MetaPoison.

    Attributes:
        images: Images, uint8 ``[p, channels, height, width]``.
        labels: Unchanged class of each poison, int64 ``[p]``.
        places: Indices of the poisons in the training set, int64 ``[p]``.
        losses: Loss on the targets after the unrolled steps, float ``[crafts]``.
        before: Loss on the targets of the same surrogates before them, float ``[crafts]``.
    """

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    places: Tensor = field(repr=False)
    losses: Tensor = field(repr=False)
    before: Tensor = field(repr=False)

    def into(self, images: Tensor) -> Tensor:
        """Return a copy of the training images with the poisons."""
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
    """Craft poisons so that a model trained on them predicts the intended class for the targets.

    Args:
        start: Makes a freshly initialised surrogate for each number.
        images: Images, uint8 ``[n, channels, height, width]``; training images of the victim.
        labels: Class of each image, int64 ``[n]``.
        places: Indices of the images that may change, int64 ``[p]``; their labels stay.
        targets: Target images, uint8 ``[t, channels, height, width]``; they stay unchanged.
        intended: Class that the model shall predict for each target, int64 ``[t]``.
        settings: Settings of the attack.
        generator: CPU random generator. The surrogates' training has a generator of its own, seeded
            from this one, so it does not depend on the other settings.

    Returns:
        The poisons and the course of the loss.

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
    """Craft poisons as ``meta_poison`` does, but against a given ensemble.

    The training fields of ``settings`` are ignored. ``Recorded`` is an ensemble for several
    targets.
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
    """The inputs that stay the same in all craft steps."""

    pixels: Tensor
    labels: Tensor
    poison_labels: Tensor
    clean: Tensor
    targets: Tensor
    intended: Tensor
    settings: MetaPoisoning
    generator: torch.Generator

    def gradient(self, ensemble: Ensemble, poisons: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ensemble means: the meta-gradient, and the losses after and before the steps."""
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
        """Draw indices of clean images for each unrolled step, ``[K, size]``."""
        shape = (self.settings.unrolled, size)
        drawn = torch.randint(len(self.clean), shape, generator=self.generator)
        return self.clean[drawn.to(self.clean.device)]
