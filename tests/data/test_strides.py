"""Images lie in memory like new tensors, whoever made them and in whatever order."""

import pytest
import torch

from fedlab.data.images import CENTRED, ImageData
from tests.client.test_client_round import do, prepared, same


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["channels last", "reversed", "usual"])
def test_images_have_the_strides_of_a_new_tensor(channels, order):
    usual = torch.arange(6 * channels * 20, dtype=torch.uint8).view(6, channels, 4, 5)
    there, back = {
        "channels last": ((0, 2, 3, 1), (0, 3, 1, 2)),
        "reversed": ((3, 2, 1, 0), (3, 2, 1, 0)),
        "usual": ((0, 1, 2, 3), (0, 1, 2, 3)),
    }[order]
    images = usual.permute(there).contiguous().permute(back)
    labels = torch.zeros(6, dtype=torch.int64)
    around = [(value,) * channels for value in CENTRED]
    data = ImageData("strides", images, labels, images[:2], labels[:2], ("a",), *around)
    assert torch.equal(data.train_images, usual)
    for found in (data.train_images, data.test_images, data.train_images[torch.tensor([2, 0])]):
        assert found.stride() == torch.empty(found.shape).stride()


def test_residual_network_on_digits_repeats_its_bits():
    """PyTorch 2.14 wrote beyond its memory here where images counted as channels-last."""
    scenario, federated, state = prepared(model={"name": "resnet8", "width": 4, "norm": "batch"})
    first, *others = (do(scenario, federated, state).payload.tensors for _ in range(4))
    assert all(same(first, other) for other in others)
