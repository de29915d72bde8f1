"""How a poisoning client tampers with its images before training, and its update after."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from attacks.payload import Payload
from attacks.poisoning.backdoor import backdoor
from attacks.poisoning.label_flip import label_flip
from attacks.poisoning.triggers import stamp
from attacks.updates.scaling import scale
from fedlab.client.roles import BadNets, LabelFlip, Poisoning
from fedlab.defenses.pipeline import Shard


def poison_shard(shard: Shard, role: Poisoning, *, generator: torch.Generator) -> Shard:
    """The shard as a poisoning client trains on it.

    Args:
        shard: Its clean images.
        role: Its settings.
        generator: Chooses which images are tampered with, the same in every round.
    """
    match role.data:
        case None:
            return shard
        case LabelFlip() as flip:
            labels = label_flip(
                shard.labels,
                num_classes=shard.num_classes,
                share=flip.share,
                source=flip.source,
                target=flip.target,
                generator=generator,
            )
            return Shard(shard.images, labels, shard.num_classes)
        case BadNets() as patch:
            images, labels = backdoor(
                shard.images,
                shard.labels,
                target=patch.target,
                share=patch.share,
                trigger=partial(stamp, size=patch.size, corner=patch.corner),
                generator=generator,
            )
            return Shard(images, labels, shard.num_classes)


def poison_update(payload: Payload, role: Poisoning, global_state: Mapping[str, Tensor]) -> Payload:
    """The payload as a poisoning client sends it."""
    return payload if role.update is None else scale(payload, global_state, role.update.factor)
