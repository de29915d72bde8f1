"""The host stays near the device, or a time budget would be measured on the wrong clock."""

import pytest
import torch

from attacks import cuda_graph
from attacks.cuda_graph import AHEAD, GraphedFunction


class Device:
    """Stands in for a CUDA stream: does nothing until somebody waits for it."""

    def __init__(self, device):
        self.queued = self.done = 0

    def record_event(self):
        return Event(self, self.queued)


class Event:
    def __init__(self, device, at):
        self.device, self.at = device, at

    def synchronize(self):
        self.device.done = max(self.device.done, self.at)


@pytest.fixture
def stream(monkeypatch):
    made = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(Device(device)) or made[0])
    monkeypatch.setattr(cuda_graph, "WARM_UPS", 1_000)  # there is nothing to record on
    return made


def test_no_more_calls_than_a_few_wait_for_the_device(stream):
    waiting = []

    def step():
        stream[0].queued += 1
        waiting.append(stream[0].queued - stream[0].done)

    replayed = GraphedFunction(step, torch.device("cuda"))
    for _ in range(100):
        replayed()
    assert max(waiting) == AHEAD + 1
    # And it is never made to wait for all of them, which would leave it idle.
    assert min(waiting[AHEAD:]) == AHEAD + 1
