"""What is assumed of a client's training."""

import pytest

from attacks.knowledge import LocalSGD


@pytest.mark.parametrize("images", [1, 3, 4, 5, 8])
@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 1), (2, 4), (3, 16)])
def test_as_many_steps_as_blocks(images, epochs, batch_size):
    local = LocalSGD(0.1, epochs=epochs, batch_size=batch_size)
    assert local.steps(images) == len(local.blocks(images))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"optimiser": "lion"}, '"lion" is none of sgd, adam, adamw'),
        ({"optimiser": "adam", "momentum": 0.9}, "set betas instead"),
        ({"optimiser": "adam", "eps": 0.0}, "eps above 0"),
        ({"optimiser": "adamw", "betas": (0.9, 1.0)}, "below 1"),
    ],
)
def test_wrong_settings_of_adam_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        LocalSGD(0.1, **settings)
