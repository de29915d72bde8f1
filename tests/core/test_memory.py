"""Limits on memory follow what is free."""

import pytest

from fedlab import BadInput
from fedlab.core import memory


def test_too_much_is_refused():
    with pytest.raises(BadInput, match="the table would take"):
        memory.check_memory(2**60, "the table")


@pytest.mark.parametrize(("free", "processes"), [(0.1, 1), (1.0, 1), (3.2, 3), (64.0, 64)])
def test_processes_follow_the_free_memory(monkeypatch, free, processes):
    monkeypatch.setattr(memory, "_free_memory", lambda: free * memory.PROCESS)
    assert memory.room_for_processes() == processes
