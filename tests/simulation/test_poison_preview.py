"""Poison previews: the same images as in a round, and refusals."""

import pytest
import torch

from fedlab import BadInput, Federation
from fedlab.client.poison import poison_shard
from fedlab.protocol.planning import task_for
from fedlab.simulation.poison_preview import preview
from tests.federations import small

PATCH = {"attack": "badnets", "target": 3, "share": 0.5, "size": 2}
FLIP = {"attack": "label-flip", "source": 1, "target": 7}


def two_poisoners():
    return small(
        roles=[
            {"role": "poisoning", "clients": "3", "rounds": "2-", "data": PATCH},
            {"role": "poisoning", "clients": "1", "rounds": "3", "data": FLIP},
            {"role": "poisoning", "clients": "0", "update": {"attack": "sign-flip"}},
        ]
    )


def test_preview_equals_what_the_client_trains_on():
    scenario = two_poisoners()
    found = preview(scenario)
    assert (found.client, found.round, found.attack) == (3, 2, "badnets")
    federation = Federation(scenario)
    federated = federation.federated
    expected = poison_shard(
        federated.shard(3), task_for(scenario, round=2, client=3), federated, federation.state
    )
    assert torch.equal(found.poisoned.images, expected.images)
    assert torch.equal(found.poisoned.labels, expected.labels)
    touched = (found.clean.images != found.poisoned.images).flatten(1).any(1)
    assert touched[found.changed].any()
    assert "of 40 images changed, no pixel by more than 255/255" in str(found)


def test_a_client_or_a_round_can_be_named():
    found = preview(two_poisoners(), client=1)
    assert (found.round, found.attack) == (3, "label-flip")
    relabelled = int((found.clean.labels == 1).sum())
    assert f"no pixel by more than 0/255, {relabelled} relabelled" in str(found)
    assert preview(two_poisoners(), round=4).client == 3


def test_picture_shows_the_first_changed_images():
    found = preview(two_poisoners())
    figure = found.plot(images=4)
    (axes,) = figure.axes
    assert len(axes.images) == 12
    place = int(found.changed[0])
    clean, poisoned, change = (axes.images[row * 4].get_array() for row in range(3))
    assert torch.equal(torch.tensor(clean), found.clean.images[place, 0].float() / 255)
    assert torch.equal(torch.tensor(poisoned), found.poisoned.images[place, 0].float() / 255)
    expected = (0.5 + 10 * (torch.tensor(poisoned) - torch.tensor(clean))).clamp(0, 1)
    torch.testing.assert_close(torch.tensor(change), expected)
    labels = [text.get_text() for text in axes.texts]
    assert sum(label in ("as 3", "label kept") for label in labels) == 4


def test_scenario_without_a_poison_is_refused():
    with pytest.raises(BadInput, match="no images are poisoned by client 0"):
        preview(two_poisoners(), client=0)
    with pytest.raises(BadInput, match="in round 1"):
        preview(two_poisoners(), round=1)
    scenario = small(
        roles=[{"role": "poisoning", "clients": "0", "data": {"attack": "badnets", "share": 1e-6}}]
    )
    with pytest.raises(BadInput, match="changes none"):
        preview(scenario).plot()
