"""A Flower app as anybody writes it: digits, a small network, plain SGD, and nothing of fedlab.

What a test wants of its clients it says in the config of the messages.
"""

from functools import cache

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

SHAPE, CLASSES, LR, ADAM_LR = (1, 8, 8), 10, 0.1, 1e-3
MEAN, STD = (0.3,), (0.4,)


class Net(nn.Module):
    def __init__(self, norm=False, shape=SHAPE, classes=CLASSES):
        super().__init__()
        channels, height, width = shape
        self.features = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.classify = nn.Linear(8 * height * width, classes)

    def forward(self, images):
        return self.classify(torch.tanh(self.norm(self.features(images))).flatten(1))


def make(shape, classes):
    return Net(shape=shape, classes=classes)


def make_with_norm(shape, classes):
    return Net(norm=True, shape=shape, classes=classes)


_data = cache(load_digits)  # which parses a text file


def digits(partition, count):
    """Images in [0, 1] and labels of a client."""
    data = _data()
    images = (data.images[partition * 100 :][:count] / 16).astype(np.float32)
    labels = data.target[partition * 100 :][:count]
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)


def initial_arrays(norm=False, numbered=False):
    torch.manual_seed(1)
    state = Net(norm).state_dict()
    if numbered:
        return ArrayRecord([value.numpy() for value in state.values()])
    return ArrayRecord(state)


app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    config, partition = message.content["config"], int(context.node_config["partition-id"])
    if partition == config.get("failing"):
        raise RuntimeError("no power")
    model = Net(norm=bool(config.get("norm")))
    state = message.content["arrays"].to_torch_state_dict()
    if config.get("numbered"):
        state = dict(zip(model.state_dict(), state.values(), strict=True))
    model.load_state_dict(state)
    images, labels = digits(partition, int(config.get("images", 1)))
    if config.get("adam"):
        optimizer = torch.optim.Adam(model.parameters(), lr=ADAM_LR)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for batch in torch.arange(len(images)).split(int(config.get("batch", 1))):
        optimizer.zero_grad()
        normalised = (images[batch] - MEAN[0]) / STD[0]
        functional.cross_entropy(model(normalised), labels[batch]).backward()
        optimizer.step()
    metrics = {"num-examples": len(images), "loss": 0.5}
    if config.get("named"):
        metrics["partition-id"] = partition
    content = RecordDict({"metrics": MetricRecord(metrics)})
    if partition != config.get("mute"):
        state = model.state_dict()
        if config.get("difference"):
            sent = message.content["arrays"].to_torch_state_dict()
            state = {name: value - sent[name] for name, value in state.items()}
        content["arrays"] = ArrayRecord(
            [value.numpy() for value in state.values()] if config.get("numbered") else state
        )
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    metrics = MetricRecord({"num-examples": 1, "partition": context.node_config["partition-id"]})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def server_app(strategy, nodes, **config):
    """A ServerApp around any strategy."""
    server = ServerApp()

    @server.main()
    def main(grid, context):
        while len(list(grid.get_node_ids())) < nodes:
            pass
        strategy.start(
            grid=grid,
            initial_arrays=initial_arrays(),
            num_rounds=1,
            train_config=ConfigRecord(config),
        )

    return server
