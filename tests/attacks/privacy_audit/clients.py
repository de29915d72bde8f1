"""Audited clients that train on real images with the project's own client code."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from attacks.privacy_audit.canaries import make_canaries, toss
from attacks.privacy_audit.scoring import CanaryScores
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.data.images import ImageData
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.models import build
from fedlab.privacy.ledger import Ledger
from fedlab.protocol.task import ClientTask
from fedlab.scenario.tables import Training
from tests import real_images

DELTA = 1e-5
CLASSES = tuple("0123456789")
SHAPE = (1, 28, 28)
PUBLIC = 200  # test images that the auditor uses


@cache
def clothes(folder):
    """Six hundred training and 1200 test images of Fashion-MNIST, uint8, with labels."""
    with np.load(
        real_images.npz("fashion_mnist", folder, "--train", "600", "--test", "1200")
    ) as arrays:
        return tuple(
            (
                torch.from_numpy(arrays[f"{split}_images"]).permute(0, 3, 1, 2),
                torch.from_numpy(arrays[f"{split}_labels"]),
            )
            for split in ("train", "test")
        )


@dataclass(frozen=True)
class Audited:
    """What the server saw of a client, and what the client's ledger says."""

    scores: CanaryScores
    included: torch.Tensor
    epsilon: float

    def audit(self):
        return self.scores.outcome(self.included, delta=DELTA, confidence=0.95)


def audited(
    images,
    *,
    seed,
    canaries=300,
    ordinary=100,
    noise=6.5,
    noiseless=False,
    rounds=4,
    batch_size=10_000,
    clipping_norm=0.1,
    lr=0.5,
):
    """A client of DP-SGD over some rounds, its included canaries among real images.

    Unless told otherwise each round is one step on all images, so that every included canary takes
    part in each.
    """
    (real, classes), (public, public_classes) = images
    generator = torch.Generator().manual_seed(seed)
    made = make_canaries(canaries, shape=SHAPE, classes=10, generator=generator)
    included = toss(canaries, generator=generator)
    own = torch.randperm(len(classes), generator=generator)[:ordinary]
    data = ImageData(
        name="audited",
        train_images=torch.cat([made.images, real[own]]),
        train_labels=torch.cat([made.labels, classes[own]]),
        test_images=public,
        test_labels=public_classes,
        classes=CLASSES,
        mean=(0.5,),
        std=(0.5,),
    )
    members = torch.cat([included.nonzero().squeeze(1), canaries + torch.arange(ordinary)])
    network = build("convnet", shape=SHAPE, classes=10, width=8, seed=seed)
    federated = FederatedData(seed, data, (members,), network)
    state = federated.state
    scores = CanaryScores(
        network,
        federated.network_input(made.images),
        made.labels,
        clipping_norm=clipping_norm,
        background=(federated.network_input(public[:PUBLIC]), public_classes[:PUBLIC]),
    )
    history = ()
    for number in range(1, rounds + 1):
        task = ClientTask(
            round=number,
            client=0,
            lr=lr,
            training=Training(batch_size=min(batch_size, len(members)), lr=lr),
            defenses=(DPSGD(noise_multiplier=noise, clipping_norm=clipping_norm),),
        )
        done = run_client_round(task, federated, state, history, noiseless=noiseless)
        scores.observe(done.sent, state, {}, lr=lr)
        state, history = dict(done.sent.tensors), done.history
    return Audited(scores, included, Ledger({0: history}, delta=DELTA).total(0))
