"""What all brewed poisons have in common: made once or anew, kept, or random for control."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from attacks.poisoning.brewing import random_perturbation
from fedlab.defenses.pipeline import Shard
from fedlab.digest import digest
from fedlab.modes import kept_modes
from fedlab.poisons.settings import Brewed
from fedlab.poisons.workshop import Workshop
from fedlab.seeds import seeded

Poisons = tuple[Tensor, Tensor]
"""Places in the shard, int64 ``[p]``, and the images to put there, uint8."""


def brewed(
    shard: Shard, workshop: Workshop, settings: Brewed, make: Callable[[], Poisons]
) -> Shard:
    """A shard with poisons in it, those made before where there are any.

    Args:
        shard: Clean.
        workshop: The client's.
        settings: Whether to make them once, and whether they are a random control.
        make: Makes them.
    """

    def fresh() -> dict[str, Tensor]:
        seed, device = workshop.own("layers").initial_seed(), shard.images.device
        with kept_modes(workshop.model), seeded(seed, device):
            places, images = make()
        if settings.control:
            images = random_perturbation(
                shard.images[places],
                epsilon=settings.epsilon,
                generator=workshop.own("control"),
            )
        return {"places": places, "images": images}

    found = workshop.shelf.take(
        f"poison {workshop.client}",
        _key(workshop, settings),
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


def _key(workshop: Workshop, settings: Brewed) -> str:
    """What a poison depends on; one that is made once, not on the round."""
    what = settings.model_dump_json()
    if settings.when == "each-round":
        what += workshop.training.model_dump_json()  # whose learning rate may fall
        if settings.against == "global":
            what += digest(workshop.sent)
    return f"client-{workshop.client}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"
