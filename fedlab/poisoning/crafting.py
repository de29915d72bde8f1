"""What all brewed poisons have in common: made once or anew, kept, or random for control."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from attacks.poisoning.crafting import random_perturbation
from fedlab.core.digest import digest
from fedlab.core.modes import kept_modes
from fedlab.core.seeds import seeded
from fedlab.data.shard import Shard
from fedlab.poisoning.context import PoisoningContext
from fedlab.poisoning.settings import Brewed

Poisons = tuple[Tensor, Tensor]
"""Places in the shard, int64 ``[p]``, and the images to put there, uint8."""


def brewed(
    shard: Shard, context: PoisoningContext, settings: Brewed, make: Callable[[], Poisons]
) -> Shard:
    """A shard with poisons in it, those made before where there are any.

    Args:
        shard: Clean.
        context: The client's.
        settings: Whether to make them once, and whether they are a random control.
        make: Makes them.
    """

    def fresh() -> dict[str, Tensor]:
        seed, device = context.own("layers").initial_seed(), shard.images.device
        with kept_modes(context.model), seeded(seed, device):
            places, images = make()
        if settings.control:
            images = random_perturbation(
                shard.images[places],
                epsilon=settings.epsilon,
                generator=context.own("control"),
            )
        return {"places": places, "images": images}

    found = context.cache.take(
        f"poison {context.client}",
        _key(context, settings),
        fresh,
        lasting=settings.when == "once",
    )
    images = shard.images.clone()
    images[found["places"].to(images.device)] = found["images"].to(images.device)
    return replace(shard, images=images)


def count(shard: Shard, share: float, target: int) -> int:
    """How many poisons of a class a share of a whole shard is: at least one, at most all it has.

    Raises:
        ValueError: If it has none.
    """
    held = int((shard.labels == target).sum())
    if not held:
        raise ValueError(f"the client has no image of class {target} to make poisons of")
    return min(held, max(1, round(share * len(shard))))


def _key(context: PoisoningContext, settings: Brewed) -> str:
    """What a poison depends on; one that is made once, not on the round."""
    what = settings.model_dump_json()
    if settings.when == "each-round":
        what += context.training.model_dump_json()  # whose learning rate may fall
        if settings.against == "global":
            what += digest(context.sent)
    return f"client-{context.client}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"
