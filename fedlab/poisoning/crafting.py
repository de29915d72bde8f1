"""The base class of crafted poisons: small, optimised changes of images whose labels stay right."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from fedlab.core.plugins import fingerprint
from fedlab.core.settings import Count
from fedlab.poisoning.base import DataPoison

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.data.shard import Shard
    from fedlab.poisoning.context import PoisoningContext

CRAFTING = "brewing"
"""Name of the random stream of crafting; another name would change every crafted poison."""


class CraftedPoison(DataPoison):
    """Optimises small changes of images against one or more networks.

    A subclass implements ``craft``. With ``against = "global"`` the client crafts with the network
    that the server has just sent, a stronger attacker than the grey box of the papers; with ``own``
    it first trains networks from scratch on its clean images, as the papers do.
    """

    epsilon: float = Field(default=16 / 255, gt=0, le=1)
    """Largest change of a pixel, in (0, 1] where pixels are in [0, 1]."""
    control: bool = False
    """Change every pixel of the same images up or down by epsilon at random instead, as the control
    of the attack. It matches the poison's largest change of a pixel, not its L2 norm, which is
    smaller."""
    against: Literal["global", "own"] = "global"
    """Network that the poison is crafted against: the ``global`` one of the round, or the client's
    ``own``, trained from scratch."""
    when: Literal["each-round", "once"] = "each-round"
    """Craft a new poison in every round, or only in the first one that the client poisons."""
    epochs: Count = Field(default=20, ge=1)
    """Epochs for which the client trains its own networks, at least 1."""
    steps: Count = Field(default=250, ge=1)
    """Optimisation steps of crafting, at least 1."""

    @model_validator(mode="after")
    def _check_epsilon(self) -> Self:
        from attacks.poisoning.pixel_levels import whole_levels  # keeps reading a scenario short

        # A control that changes nothing is the same run without a poison.
        if not self.control and not whole_levels(self.epsilon):
            raise ValueError(
                f"epsilon {self.epsilon:g} is less than one level of a pixel, 1/255, and would "
                "change nothing"
            )
        return self

    @abstractmethod
    def craft(self, shard: Shard, context: PoisoningContext) -> tuple[Tensor, Tensor]:
        """Return the indices of the changed images, int64 ``[p]``, and their new pixels, uint8.

        With ``control`` only the indices count: random changes replace the new pixels.

        Args:
            shard: The client's clean images and labels; leave them unchanged.
            context: Network, public images, training settings and random generators.

        Raises:
            ValueError: If these images cannot be poisoned in this way.
        """

    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """Return the shard with the crafted images, from the cache if they were made before."""

        def make() -> dict[str, Tensor]:
            places, images = self._craft_reproducibly(shard, context)
            return {"places": places, "images": images}

        found = context.cache.take(
            f"poison {context.client}",
            self._cache_key(context),
            make,
            lasting=self.when == "once",
        )
        images = shard.images.clone()
        images[found["places"].to(images.device)] = found["images"].to(images.device)
        return replace(shard, images=images)

    def _craft_reproducibly(self, shard: Shard, context: PoisoningContext) -> tuple[Tensor, Tensor]:
        # These import torch, which reading a scenario does not need.
        from attacks.poisoning.crafting import random_perturbation
        from fedlab.core.modes import kept_modes
        from fedlab.core.seeds import seeded

        seed = context.own("layers").initial_seed()
        with kept_modes(context.model), seeded(seed, shard.images.device):
            places, images = self.craft(shard, context)
        if self.control:
            images = random_perturbation(
                shard.images[places], epsilon=self.epsilon, generator=context.own("control")
            )
        return places, images

    def _cache_key(self, context: PoisoningContext) -> str:
        """A hash of everything that the poison depends on; the round counts only if it matters."""
        from fedlab.core.digest import digest  # imports torch

        # Name after inherited settings: older run folders name their stored poisons in this order.
        base = type(self).__bases__[0]
        inherited = base.model_fields if issubclass(base, CraftedPoison) else ()
        first = [name for name in inherited if name != self.tag]
        order = dict.fromkeys([*first, self.tag, *type(self).model_fields])
        depends = ",".join(self.model_dump_json(include={name})[1:-1] for name in order)
        depends = f"{{{depends}}}"
        if self.when == "each-round":
            depends += repr(context.training)  # the learning rate may fall from round to round
            if self.against == "global":
                depends += digest(context.sent)
        elif context.cache.folder is not None and not self.registry.is_builtin(self.key):
            depends += fingerprint(type(self))
        return f"client-{context.client}-{hashlib.sha256(depends.encode()).hexdigest()[:16]}"


def poison_count(shard: Shard, share: float, target: int) -> int:
    """Number of images of the target class that a share of the whole shard allows, at least one.

    Raises:
        ValueError: If the client has no image of that class.
    """
    held = int((shard.labels == target).sum())
    if not held:
        raise ValueError(f"the client has no image of class {target} to make poisons of")
    return min(held, max(1, round(share * len(shard))))
