"""Small federations for tests: real digits, a small network, seconds to run."""

import copy

from flwr.app import Error, Message
from torch import nn

from fedlab import Federation, Scenario
from fedlab.client.app import client_app
from fedlab.client.federated_data import FederatedData
from fedlab.engine.in_process import InProcessGrid

SMALL = """
name = "small"
rounds = 4
data = { train = 160, test = 80, clients = 4 }
model = { name = "convnet", width = 4 }
training = { batch_size = 16, lr = 0.05 }
engine = { device = "cpu" }
"""


PLAIN = {"preset": "inverting-gradients", "power": False}
"""Attacks of tests about other things: surrogate clients cost more than the attack itself."""


def small(*overrides, **tables) -> Scenario:
    """Four clients of forty digits, four rounds, all of them honest unless changed."""
    if "reconstructions" in tables:
        tables["reconstructions"] = [PLAIN | entry for entry in tables["reconstructions"]]
    scenario = Scenario.parse(SMALL, overrides)
    return scenario.changed(**tables) if tables else scenario


def forgetful(shape, classes) -> nn.Module:
    """A network with Dropout, which draws from the global generator."""
    channels, height, width = shape
    pixels = channels * height * width
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(pixels, classes))


FORGETFUL = {"name": "factory", "factory": "tests.federations:forgetful"}


def finished(scenario, **options) -> Federation:
    """A federation after its last round."""
    federation = Federation(scenario, **options)
    federation.run()
    return federation


class Tampered(InProcessGrid):
    """A grid that lets a test change a client's reply, or put an error in its place."""

    def __init__(self, scenario, tamper):
        federated = FederatedData.of(scenario)
        super().__init__(client_app(lambda _: federated), scenario.data.clients)
        self._tamper = tamper

    def _deliver(self, message):
        reply = super()._deliver(message)
        if message.metadata.message_type != "train" or reply.has_error():
            return reply
        client = message.metadata.dst_node_id - 1
        changed = self._tamper(client, copy.deepcopy(reply))
        return Message(changed, reply_to=message) if isinstance(changed, Error) else changed
