"""Tests of the images, network and random streams of all clients."""

import pytest
import torch
from torch import nn

from fedlab.client.federated_data import FederatedData
from tests.federations import small


@pytest.fixture(scope="module")
def federated():
    return FederatedData.of(small())


def test_every_image_belongs_to_one_client(federated):
    members = torch.cat([part.cpu() for part in federated.partitions])
    assert sorted(members.tolist()) == list(range(160))
    assert [len(federated.shard(client)) for client in range(4)] == [
        len(p) for p in federated.partitions
    ]


def test_shard_has_the_clients_images_and_labels(federated):
    shard = federated.shard(2)
    for place, member in enumerate(federated.partitions[2].tolist()):
        assert torch.equal(shard.images[place], federated.data.train_images[member])
        assert shard.labels[place] == federated.data.train_labels[member]
    assert shard.num_classes == 10


def test_network_input_is_normalised(federated):
    images = federated.data.train_images[:3]
    mean, std = (
        torch.tensor(v).view(1, -1, 1, 1) for v in (federated.data.mean, federated.data.std)
    )
    torch.testing.assert_close(federated.network_input(images), (images.float() / 255 - mean) / std)


def test_state_is_a_copy_and_loads_back():
    federated = FederatedData.of(small(model={"name": "resnet8", "width": 4, "norm": "batch"}))
    state = federated.state
    names = [n for n, _ in (*federated.model.named_parameters(), *federated.model.named_buffers())]
    assert sorted(state) == sorted(names)
    with torch.no_grad():
        for value in federated.model.state_dict().values():
            value.add_(1)
    assert not any(torch.equal(federated.state[name], value) for name, value in state.items())
    federated.load(state)
    assert all(torch.equal(federated.state[name], value) for name, value in state.items())


def test_shared_tensor_is_in_the_state_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(4, 4, bias=False)
            self.two = nn.Linear(4, 4, bias=False)
            self.two.weight = self.one.weight

    plain = FederatedData.of(small())
    federated = FederatedData(0, plain.data, plain.partitions, Tied())
    assert list(federated.state) == ["one.weight"]
    federated.load({"one.weight": torch.full((4, 4), 2.0)})
    assert torch.equal(federated.model.two.weight.detach(), torch.full((4, 4), 2.0))


def test_unknown_parameter_is_refused(federated):
    with pytest.raises(ValueError, match="the network has no parameter extra"):
        federated.load({**federated.state, "extra": torch.zeros(1)})


def test_streams_depend_on_purpose_and_key_only(federated):
    def first(purpose, *key):
        return float(torch.rand(1, generator=federated.stream(*key)(purpose)))

    assert first("batches", 1, 2) == first("batches", 1, 2)
    others = [first("batches", 2, 1), first("batches", 1, 3), first("partners", 1, 2)]
    assert len({first("batches", 1, 2), *others}) == 4


def test_seed_decides_network_and_partition():
    one, same, other = (FederatedData.of(small(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.partitions, same.partitions, strict=True))
    assert all(torch.equal(one.state[name], same.state[name]) for name in one.state)
    assert not torch.equal(one.partitions[0], other.partitions[0])
    assert not torch.equal(one.state["0.weight"], other.state["0.weight"])
