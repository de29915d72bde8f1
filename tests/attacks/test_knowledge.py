"""What is assumed of a client's training."""

import pytest

from attacks.knowledge import LocalSGD


@pytest.mark.parametrize("images", [1, 3, 4, 5, 8])
@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 1), (2, 4), (3, 16)])
def test_as_many_steps_as_blocks(images, epochs, batch_size):
    local = LocalSGD(0.1, epochs=epochs, batch_size=batch_size)
    assert local.steps(images) == len(local.blocks(images))
