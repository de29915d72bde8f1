"""Membership inference on a captured update, scored against the ground truth."""

from typing import Literal

import torch
from torch import nn

from attacks.privacy_audit.lira import by_likelihood_ratio, confidences, shadow_confidences
from attacks.privacy_audit.membership import (
    MembershipResult,
    by_alignment,
    by_loss,
    by_loss_drop,
    judge,
)
from fedlab.client.federated_data import FederatedData
from fedlab.evaluation.replay import Truth
from fedlab.server.captures import Capture

MembershipTest = Literal["loss", "loss-drop", "alignment", "lira"]
"""Statistic of an image: its loss under the client's weights, the drop of that loss, the alignment
of its gradient with the update, or LiRA's likelihood ratio over shadow clients."""


def membership(
    capture: Capture,
    truth: Truth,
    federated: FederatedData,
    network: nn.Module,
    *,
    test: MembershipTest,
    non_members: int,
    shadows: int,
    generator: torch.Generator,
) -> MembershipResult:
    """Run a membership inference attack on a capture and score it.

    Args:
        capture: The captured update.
        truth: The images behind it, which are the members.
        federated: Data of all clients; its test images are the non-members.
        network: The architecture; its weights are not used.
        test: Statistic that decides about an image.
        non_members: Largest number of test images to use.
        shadows: Number of LiRA's shadow clients, an even number.
        generator: CPU generator of LiRA's shadow clients.

    Raises:
        ValueError: If there is no image behind the capture, or ``shadows`` is odd.
    """
    members = torch.unique(truth.sources)
    others = slice(0, non_members)
    images = federated.network_input(
        torch.cat([truth.shard.images[members], federated.data.test_images[others]])
    )
    labels = torch.cat([truth.shard.labels[members], federated.data.test_labels[others]])
    state = {name: value.to(federated.device) for name, value in capture.global_state.items()}
    before = {name: state[name] for name in capture.payload.tensors}
    buffers = {name: value for name, value in state.items() if name not in before}
    lr = capture.facts.lr
    payload = capture.payload.to(federated.device)
    after = payload.as_weights(before, lr=lr)
    network = network.to(federated.device).eval()
    if test == "loss":
        scores = by_loss(network, after, buffers, images, labels)
    elif test == "loss-drop":
        scores = by_loss_drop(network, before, after, buffers, images, labels)
    elif test == "alignment":
        scores = by_alignment(network, before, buffers, images, labels, payload=payload, lr=lr)
    else:
        seen, included = shadow_confidences(
            network,
            before,
            buffers,
            images,
            labels,
            local=capture.facts.local_sgd,
            count=shadows,
            generator=generator,
        )
        scores = by_likelihood_ratio(
            confidences(network, after, buffers, images, labels), seen, included
        )
    count = len(members)
    return judge(scores[:count], scores[count:])
