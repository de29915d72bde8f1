import torch

from fedlab.core.seeds import derive, generator


def test_streams_differ_by_every_part_of_their_key() -> None:
    keys = [(0, "a", 1, 2), (1, "a", 1, 2), (0, "b", 1, 2), (0, "a", 2, 1), (0, "a", 12)]
    assert len({derive(seed, purpose, *key) for seed, purpose, *key in keys}) == len(keys)


def test_a_stream_restarts_and_keeps_the_global_one() -> None:
    before = torch.get_rng_state()
    first = torch.randn(3, generator=generator(0, "noise", 1))
    again = torch.randn(3, generator=generator(0, "noise", 1))
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())
