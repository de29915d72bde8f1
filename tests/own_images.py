"""Hospitals of a deployment: each has digits of its own, as pictures in a folder of its own."""

import numpy as np
from PIL import Image

from fedlab import Scenario
from fedlab.client.app import client_app
from fedlab.data import load
from fedlab.engine.in_process import InProcessGrid

CLASSES = 4
NODES = 3


def hospitals(public, **tables):
    """Three clients that leak the gradient of one image, which the server attacks."""
    return Scenario.parse(
        f"""
        name = "hospitals"
        rounds = 2
        data = {{ source = "folder:{public}", clients = {NODES} }}
        model = {{ name = "mlp", width = 8 }}
        training = {{ batch_size = 4, lr = 0.05 }}
        engine = {{ name = "deployment", device = "cpu" }}
        reconstructions = [{{ preset = "analytic", labels = "inferred", power = false }}]
        [[roles]]
        role = "leaking"
        batch_size = 1
        """
    ).changed(**tables)


def write_images(folder, first, classes=CLASSES):
    """Write 6 training and 2 test images of each class, other ones for each ``first``."""
    digits = load("digits")
    for label in range(classes):
        own = np.flatnonzero(digits.train_labels.numpy() == label)[first : first + 8]
        for split, chosen in (("train", own[:6]), ("test", own[6:])):
            place = folder / split / f"class-{label}"
            place.mkdir(parents=True)
            for index in chosen:
                picture = digits.train_images[int(index)].squeeze(0).numpy()
                Image.fromarray(picture).save(place / f"{index}.png")
    return folder


class Hospitals(InProcessGrid):
    """SuperNodes in this process, each started with a ``--node-config`` of its own."""

    def __init__(self, configs):
        def simulated(_):
            raise AssertionError("a client with images of its own must not take part in this")

        super().__init__(client_app(simulated), len(configs))
        self.configs = configs
        self.dead = set()

    def _context(self, node):
        context = super()._context(node)
        context.node_config.update(self.configs[node - 1])
        return context

    def get_node_ids(self):
        return [node for node in super().get_node_ids() if node - 1 not in self.dead]

    def restart(self):
        """Start all nodes anew, which makes them forget their state."""
        self._contexts.clear()
