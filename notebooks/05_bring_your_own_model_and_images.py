# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bring your own: images, a network, a defense, and a Flower app
#
# A function that returns images, one that builds a network, and a class that is a defense enter a
# scenario by name. Then we observe the strategy of a Flower app that knows nothing of fedlab, and
# rebuild images from what its server saw.

# %%
import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from sklearn.datasets import load_sample_images
from torch import nn

import fedlab
from fedlab import Federation, LocalSGD, Scenario
from fedlab.core.environment import environment
from fedlab.data import ImageData
from fedlab.defenses import Defense
from fedlab.engine.in_process import InProcessGrid
from fedlab.report.figures.gallery import gallery

print("about half a minute on one core")
environment()

# %% [markdown]
# ## Images and a network
# Two photographs that come with scikit-learn, a temple and a flower, cut into patches of 32x32
# pixels, of which the 320 with most contrast are kept. Your own function reads whatever you have;
# an image folder or an `.npz` needs none.


# %%
def patches():
    cut = [
        photo[: 13 * 32, : 20 * 32].reshape(13, 32, 20, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
        for photo in load_sample_images().images
    ]
    images = torch.from_numpy(np.concatenate(cut)).permute(0, 3, 1, 2)
    labels = torch.arange(2).repeat_interleave(13 * 20)
    kept = images.float().std((1, 2, 3)).argsort(descending=True)[:320]
    train, test = kept[torch.randperm(320, generator=torch.Generator().manual_seed(0))].split(240)
    return ImageData(
        "photographs", images[train], labels[train], images[test], labels[test],
        classes=("temple", "flower"), mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip


def network(shape, classes):
    return nn.Sequential(
        nn.Conv2d(shape[0], 64, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(64 * shape[1] * shape[2] // 16, classes),
    )


# %% [markdown]
# ## A federation on them
# `__main__` is this notebook; in a file it would be `package.module:name`. On this network the
# preset `modern` does best, since it prefers smooth images; `fedlab list presets` names all.

# %%
scenario = Scenario(
    name="photographs",
    rounds=2,
    data={"source": "__main__:patches", "clients": 8},
    model={"name": "__main__:network"},
    training={"batch_size": 16, "lr": 0.02},
    roles=[{"role": "leaking", "clients": "0", "batch_size": 2}],
    reconstructions=[{"clients": "0", "preset": "modern", "labels": "inferred", "iterations": 250}],
)
federation = Federation(scenario)
federation.run()
federation.picture()


# %%
class SignsOnly(Defense):
    """A defense of your own: sends the signs of the update, scaled by their mean magnitude."""

    changes_update = True

    def wrap(self, pipeline, context):
        return pipeline.releasing(
            lambda update: {name: t.sign() * t.abs().mean() for name, t in update.items()}
        )


defended = Federation(scenario.changed(name="signs only", defenses=[SignsOnly()]))
defended.run()
defended.picture()

# %% [markdown]
# ## A Flower app that knows nothing of fedlab
# Each client trains on one patch for one step and sends its weights, as in any tutorial.

# %%
app = ClientApp()
data = patches()


@app.train()
def train(message, context):
    own = [int(context.node_config["partition-id"])]
    images, labels = data.train_images[own] / 255, data.train_labels[own]
    model = network((3, 32, 32), 2)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    nn.functional.cross_entropy(model((images - 0.5) / 0.25), labels).backward()
    torch.optim.SGD(model.parameters(), lr=0.05).step()
    content = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": len(labels), "partition-id": own[0]}),
    }
    return Message(RecordDict(content), reply_to=message)


# %% [markdown]
# ## Observe its strategy
# `observe` wraps the strategy and changes nothing. Here the app runs in this process; with
# `flwr run` only the line with `observe` is new in a ServerApp. Flower's node ids are random: a
# `partition-id` among the metrics identifies a client; without it clients are numbered in the order
# of their first reply.

# %%
torch.manual_seed(0)
strategy = fedlab.observe(FedAvg(fraction_evaluate=0.0), "captures", local=LocalSGD(lr=0.05))
result = strategy.start(
    grid=InProcessGrid(app, 3),
    initial_arrays=ArrayRecord(network((3, 32, 32), 2).state_dict()),
    num_rounds=1,
)
# %%
clients = range(3)
facts = {"model": network, "shape": (3, 32, 32), "classes": 2, "mean": (0.5,), "std": (0.25,)}
found = [
    strategy.reconstruct(round=1, client=client, **facts, preset="fast", iterations=200)
    for client in clients
]
scores = [
    fedlab.score_images(
        one,
        data.train_images[[client]],
        labels=data.train_labels[[client]],
        public=(data.test_images, data.test_labels),
    )
    for client, one in zip(clients, found, strict=True)
]
gallery(
    torch.cat([data.train_images[:3] / 255, *(score.rebuilt for score in scores)]),
    ["true"] * 3
    + [
        f"{each.psnr:.0f} dB, chance {each.chance_psnr:.0f}"
        for score in scores
        for each in score.images
    ],
    title="What did a plain Flower app give away?",
    columns=3,
)
