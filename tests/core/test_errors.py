"""Hints name a misspelt word, and never a different thing that shares a part with it."""

import pytest

from fedlab.core.errors import nearest
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.scenario.tables import Reconstruct, Training


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("noise", DPSGD.model_fields, "noise_multiplier"),
        ("clip", DPSGD.model_fields, "clipping_norm or clipping"),
        ("clip_norm", DPSGD.model_fields, "clipping_norm"),
        ("noise_multiplir", DPSGD.model_fields, "noise_multiplier"),
        ("secure", DPSGD.model_fields, "secure_noise"),
        ("batch", Training.model_fields, "batch_size"),
        ("batchsize", Training.model_fields, "batch_size"),
        ("iteration", Reconstruct.model_fields, "iterations"),
        ("leaky", ["honest", "leaking", "poisoning"], "leaking"),
        ("cifar-10", ["cifar10", "digits"], "cifar10"),
    ],
)
def test_a_misspelt_word_is_named(word, known, hint):
    assert nearest(word, known).replace('"', "") == f"did you mean {hint}?"


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("dp_noise", DPSGD.model_fields),
        ("sigma", DPSGD.model_fields),
        ("batch_norm", Training.model_fields),
        ("epsilon", DPSGD.model_fields),
        ("noise", ["clip-noise", "pixel-noise"]),
        ("scale", ["share", "size"]),
    ],
)
def test_another_thing_is_not_named(word, known):
    assert nearest(word, known) == f"known: {', '.join(known)}"
