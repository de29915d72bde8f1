"""Tests of the cache of poisons."""

import torch

from fedlab.poisoning.cache import PoisonCache


class Maker:
    def __init__(self):
        self.made = 0

    def __call__(self):
        self.made += 1
        return {"images": torch.full((2,), self.made, dtype=torch.uint8)}


def test_cache_keeps_the_last_result_of_each_owner():
    cache, make = PoisonCache(), Maker()
    first = cache.take("a", "1", make, lasting=False)
    assert cache.take("a", "1", make, lasting=False) is first
    cache.take("b", "1", make, lasting=False)
    assert cache.take("a", "1", make, lasting=False) is first
    assert make.made == 2
    cache.take("a", "2", make, lasting=False)
    assert int(cache.take("a", "1", make, lasting=False)["images"][0]) == 4


def test_only_lasting_results_are_in_the_folder(tmp_path):
    make, folder = Maker(), tmp_path / "poisons"
    one, other = PoisonCache(), PoisonCache()
    one.folder = other.folder = folder
    made = one.take("a", "kept", make, lasting=True)
    assert torch.equal(other.take("a", "kept", make, lasting=True)["images"], made["images"])
    one.take("a", "gone", make, lasting=False)
    assert [file.name for file in folder.iterdir()] == ["kept.safetensors"]
    assert make.made == 2


def test_forget_removes_outdated_results():
    cache, make = PoisonCache(), Maker()
    for owner, key in (("a 1", "new 1"), ("a 2", "old 2"), ("b", "old")):
        cache.take(owner, key, make, lasting=False)
    cache.forget("a ", but="new")
    assert list(cache._recent) == ["a 1", "b"]
