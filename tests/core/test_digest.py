"""Hashes of global arrays, which many captures share."""

import torch

from fedlab.core.digest import digest, shared_digest


def test_the_same_tensors_are_hashed_once(monkeypatch):
    state = {"weight": torch.arange(3.0), "bias": torch.zeros(2)}
    first = shared_digest(state)
    assert first == digest(state)
    monkeypatch.setattr("fedlab.core.digest.digest", lambda _: "again")
    assert shared_digest(dict(state)) == first


def test_others_of_the_same_names_are_hashed_anew():
    one, other = {"weight": torch.zeros(3)}, {"weight": torch.ones(3)}
    assert shared_digest(one) == digest(one)
    assert shared_digest(other) == digest(other) != digest(one)
    assert shared_digest({}) == digest({})


def test_a_tensor_that_is_gone_is_not_taken_for_another():
    for value in range(20):  # a new tensor often has the address of the last one
        state = {"weight": torch.full((3,), float(value))}
        assert shared_digest(state) == digest(state)
        del state
