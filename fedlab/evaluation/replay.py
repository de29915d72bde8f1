"""Replay of a round from the seed: the images behind a capture, and a check of its payload."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from attacks.payload import Payload
from fedlab.client.client_round import ClientUpdate, run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.data.shard import Shard
from fedlab.defenses.unique_inputs import unique_inputs
from fedlab.privacy.release import History
from fedlab.protocol.task import ClientTask
from fedlab.server.captures import Capture
from fedlab.server.secure_sum import Part, counts_equally, summed
from fedlab.server.suppression import singled_out, suppressed_state


@dataclass(frozen=True)
class Truth:
    """The n images behind a capture, in the order of the clients' batches.

    Attributes:
        inputs: float32 ``[n, channels, height, width]`` in [0, 1], inputs of the network.
        labels: int64 ``[n]``, or soft ``[n, classes]`` where they were mixed.
        sources: int64 ``[n, k]``, indices in the shard of the images in each input.
        shard: All images of these clients, one client after the other.
        owners: int64 ``[n]``, partition id of the client of each input.
        order: Indices in ``inputs`` of the images of each local step; ``None`` where later epochs
            have inputs of their own, as under mixing and augmentation, and for several clients.
        payload_cosine: Cosine between the captured update and the replayed one; NaN if its noise
            cannot be drawn again.
        signal_cosine: Cosine between the two without the noise of defenses.
        noisy: True if a defense added noise to the update.
    """

    inputs: Tensor
    labels: Tensor
    sources: Tensor
    shard: Shard
    owners: Tensor
    order: tuple[Tensor, ...] | None
    payload_cosine: float
    signal_cosine: float
    noisy: bool = False

    @property
    def mixed(self) -> bool:
        """True if inputs are mixtures of several images."""
        return self.labels.is_floating_point()

    def same_images(self, other: "Truth") -> bool:
        """True if the inputs of another capture were made of the same images, in any order."""
        mine, theirs = self.sources.sort(0).values, other.sources.sort(0).values
        return torch.equal(mine, theirs)

    def order_in(self, other: "Truth") -> tuple[Tensor, ...] | None:
        """The order of local steps as indices in the inputs of another capture of the same images.

        ``None`` where it cannot be told: the order is unknown, or the images are other ones.
        """
        if self.order is None or not self.same_images(other):
            return None
        ranks = self.sources[:, 0].argsort().argsort()
        places = other.sources[:, 0].argsort()[ranks]
        return tuple(places[step] for step in self.order)

    @property
    def changed(self) -> bool:
        """True if inputs are changed versions of single images, as after augmentation."""
        if self.mixed:
            return False
        return not torch.equal(self.inputs, self.shard.images[self.sources[:, 0]].float().div(255))


def replay(
    federated: FederatedData,
    capture: Capture,
    tasks: Mapping[int, ClientTask],
    histories: Mapping[int, History],
) -> Truth:
    """Run the round of every client behind a capture again.

    Each client trains once, and a second time without noise if a defense adds noise. Of a sum in
    which all but one client were suppressed, the images are those of that client; the others run
    again only for the sake of their noise.

    Args:
        federated: Images of all clients, and the network that they train.
        capture: The captured update.
        tasks: Tasks of the clients by client.
        histories: Privacy histories of the clients *before* the round, which key their noise.

    Raises:
        ValueError: If a client sends nothing by its task.
    """
    seen = singled_out(capture)
    sources = {e.noise_source for client in capture.clients for e in tasks[client].defenses}
    noisy = bool(sources - {"none"})
    clients = capture.clients if noisy else seen.clients
    state = {name: value.to(federated.device) for name, value in capture.global_state.items()}
    dead = suppressed_state(state, [name for name, _ in federated.model.named_parameters()])
    sent: dict[int, Mapping[str, Tensor]] = {
        client: state if client in seen.clients else dead for client in clients
    }
    orders = {client: tasks[client].model_copy(update={"history": None}) for client in clients}

    def run(client: int, **options: Any) -> ClientUpdate:
        before = histories.get(client, ())
        return run_client_round(orders[client], federated, sent[client], before, **options)

    done = {client: run(client, keep_batches=True) for client in clients}
    payload_cosine = signal_cosine = math.nan
    forgotten = any(
        task.observes and federated.cache.forgot_global(task.client, task.round)
        for task in orders.values()
    )
    if "system" not in sources and not forgotten:
        quiet = {client: run(client, noiseless=True) for client in clients} if noisy else done

        def change(payload: Payload) -> Tensor:
            return _change(payload, state, seen.payload.tensors)

        def replayed(each: Mapping[int, ClientUpdate]) -> Tensor:
            whole = received(list(each.values()), list(orders.values()), list(sent.values()))
            return change(singled_out(replace(capture, clients=clients, payload=whole)).payload)

        captured, again, signal = change(seen.payload), replayed(done), replayed(quiet)
        payload_cosine, signal_cosine = (
            _cosine(captured, again),
            _cosine(captured - (again - signal), signal),
        )
    return truth_of(
        seen.clients,
        [done[client] for client in seen.clients],
        payload_cosine=payload_cosine,
        signal_cosine=signal_cosine,
        noisy=noisy,
    )


def truth_of(
    clients: Sequence[int],
    done: Sequence[ClientUpdate],
    *,
    payload_cosine: float = math.nan,
    signal_cosine: float = math.nan,
    noisy: bool = False,
) -> Truth:
    """The images of the clients' batches, each once.

    Args:
        clients: Partition ids of the clients.
        done: Their rounds, with the batches.
        payload_cosine: See ``Truth``; NaN where nothing was compared.
        signal_cosine: Likewise.
        noisy: True if a defense added noise to the update.
    """
    once = [unique_inputs(each.batches) for each in done]
    labels = [
        torch.cat([batch.labels for batch in each.batches])[places]
        for each, (places, _) in zip(done, once, strict=True)
    ]
    return Truth(
        inputs=torch.cat(
            [
                torch.cat([batch.pixels for batch in each.batches])[places]
                for each, (places, _) in zip(done, once, strict=True)
            ]
        ),
        labels=_of_one_type(labels, done[0].shard.num_classes),
        sources=_sources(done, [places for places, _ in once]),
        shard=Shard(
            torch.cat([each.shard.images for each in done]),
            torch.cat([each.shard.labels for each in done]),
            done[0].shard.num_classes,
        ),
        owners=torch.cat(
            [
                torch.full_like(places, client)
                for client, (places, _) in zip(clients, once, strict=True)
            ]
        ),
        order=once[0][1] if len(once) == 1 else None,
        payload_cosine=payload_cosine,
        signal_cosine=signal_cosine,
        noisy=noisy,
    )


def _of_one_type(labels: Sequence[Tensor], num_classes: int) -> Tensor:
    """Labels of several clients together: soft if those of any client are soft."""
    if any(each.is_floating_point() for each in labels):
        labels = [
            each if each.is_floating_point() else one_hot(each, num_classes).float()
            for each in labels
        ]
    return torch.cat(list(labels))


def _sources(done: Sequence[ClientUpdate], once: Sequence[Tensor]) -> Tensor:
    """Indices in the joined shards; an input of fewer images repeats its first index."""
    starts = accumulate((len(each.shard) for each in done), initial=0)
    rows = [
        torch.cat([batch.sources for batch in each.batches])[places] + start
        for each, places, start in zip(done, once, starts, strict=False)
    ]
    k = max(row.shape[1] for row in rows)
    return torch.cat([torch.cat([row, row[:, :1].expand(-1, k - row.shape[1])], 1) for row in rows])


def received(
    done: Sequence[ClientUpdate], tasks: Sequence[ClientTask], sent: Sequence[Mapping[str, Tensor]]
) -> Payload:
    """The payload that the server received: one reply, or the sum of several.

    Args:
        done: Rounds of the clients, each with a payload.
        tasks: Their tasks, in the same order.
        sent: Parameters that they were sent by name, in the same order.
    """
    if len(done) == 1:
        return done[0].sent
    parts = [
        Part(each.sent, each.sent.as_weights(state, lr=task.lr))
        for each, task, state in zip(done, tasks, sent, strict=True)
    ]
    return summed(parts, parts[0].model, equally=counts_equally(tasks)).payload


def _change(payload: Payload, state: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    """Some tensors of a payload as one vector: the gradient, or the change of the weights."""
    parts = [
        payload.tensors[name].to(state[name].device)
        - (0 if payload.kind == "gradient" else state[name])
        for name in sorted(names)
    ]
    return torch.cat([part.flatten().double() for part in parts])


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one, other) / (one.norm() * other.norm()))
