"""Every setting of a poisoning role reaches the attack that it names."""

from functools import partial

import pytest
import torch

from attacks.payload import Payload
from attacks.poisoning.backdoor import backdoor
from attacks.poisoning.label_flip import label_flip
from attacks.poisoning.triggers import stamp
from fedlab.client.poison import poison_shard, poison_update
from fedlab.client.roles import BadNets, LabelFlip, Poisoning, Scaling
from fedlab.defenses.pipeline import Shard


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clean(n=30):
    images = torch.randint(0, 200, (n, 1, 6, 6), generator=seeded(), dtype=torch.uint8)
    return Shard(images, torch.randint(5, (n,), generator=seeded(1)), 5)


def test_no_data_attack_is_the_clean_shard():
    shard = clean()
    role = Poisoning(update=Scaling(factor=2.0))
    assert poison_shard(shard, role, generator=seeded()) is shard


@pytest.mark.parametrize("classes", [{}, {"source": 1, "target": 3}])
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_label_flip(classes, share):
    shard = clean()
    role = Poisoning(data=LabelFlip(share=share, **classes))
    found = poison_shard(shard, role, generator=seeded(4))
    expected = label_flip(shard.labels, num_classes=5, share=share, generator=seeded(4), **classes)
    assert torch.equal(found.labels, expected)
    assert not torch.equal(found.labels, shard.labels)
    assert torch.equal(found.images, shard.images)
    assert found.num_classes == 5


def test_badnets():
    shard = clean()
    settings = {"target": 2, "share": 0.3, "size": 2, "corner": "top-right"}
    found = poison_shard(shard, Poisoning(data=BadNets(**settings)), generator=seeded(4))
    images, labels = backdoor(
        shard.images,
        shard.labels,
        target=2,
        share=0.3,
        trigger=partial(stamp, size=2, corner="top-right"),
        generator=seeded(4),
    )
    assert torch.equal(found.images, images)
    assert torch.equal(found.labels, labels)
    assert found.num_classes == 5


def test_the_update_is_scaled_only_if_it_is_asked_for():
    start = {"w": torch.tensor([1.0, 2.0])}
    payload = Payload("weights", {"w": torch.tensor([2.0, 0.0])}, num_examples=1, steps=1)
    assert poison_update(payload, Poisoning(), start) is payload
    scaled = poison_update(payload, Poisoning(update=Scaling(factor=3.0)), start)
    assert scaled.tensors["w"].tolist() == [4.0, -4.0]
