"""Steps of local SGD that are recorded once and replayed for every client and batch of a shape.

On a GPU the record is a CUDA graph: a small network's kernels take less time than their launches.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from attacks.cuda_graph import GraphedFunction
from fedlab.client.sgd import LocalStep
from fedlab.defenses.pipeline import PlainGradient
from fedlab.protocol.task import ClientTask

MOST_RECORDED = 4
"""Largest number of shapes of batches that are recorded; other batches are computed as usual."""


class Recorded(Protocol):
    """A function that is replayed on a stream of its own once it is recorded."""

    def stream(self) -> AbstractContextManager[None]:
        """Queue the work of the block after the work of the caller's stream."""

    def join(self) -> None:
        """Make the caller's stream wait for all queued calls."""

    def __call__(self) -> None:
        """Call or replay the function within ``stream``."""


Recorder = Callable[[Callable[[], None], torch.device], Recorded]
"""Makes a recorded function of one that reads and writes tensors that keep their addresses."""


def as_cuda_graph(function: Callable[[], None], device: torch.device) -> Recorded:
    """Record a function as a CUDA graph at its fourth call."""
    return GraphedFunction(function, device, name="the local training")


class RecordedSteps:
    """Steps of local SGD with a network that all clients take turns to train.

    Whatever a record reads is in tensors that keep their addresses: the parameters, the batch, the
    momenta and the global weights. Learning rate, settings of local SGD, the weight of the
    proximal term and the mode of the network are constants of a record, so that all records are
    dropped as soon as a client is asked for others.

    Args:
        model: The network.
        recorder: Makes a recorded function of a step.
    """

    def __init__(self, model: nn.Module, recorder: Recorder) -> None:
        self._model, self._recorder = model, recorder
        self._gradient = PlainGradient(model)
        self._constants: object = None
        self._sent: dict[str, Tensor] = {}
        self._records: dict[object, Callable[[Tensor, Tensor], None]] = {}

    def step_of(
        self, task: ClientTask, global_state: Mapping[str, Tensor]
    ) -> Callable[[Tensor, Tensor], None]:
        """Return the step of a client at the start of its round.

        Args:
            task: Task of the client, with the settings of local SGD.
            global_state: Global parameters by name, which are in the network.

        Returns:
            A function of normalised images and labels that changes the network.
        """
        parameters = dict(self._model.named_parameters())
        constants = (
            (task.lr, task.training.model_dump_json(), task.proximal_mu),
            [layer.training for layer in self._model.modules()],
            [(each.data_ptr(), each.requires_grad) for each in parameters.values()],
        )
        if constants != self._constants:
            self._records.clear()
            self._constants = constants
            self._sent = {name: torch.empty_like(global_state[name]) for name in parameters}
            self._step = LocalStep(parameters, self._gradient, task, self._sent)
        self._step.forget_momenta()
        if task.proximal_mu:
            for name, tensor in self._sent.items():
                tensor.copy_(global_state[name])
        return self._advance

    def _advance(self, images: Tensor, labels: Tensor) -> None:
        shape = (images.shape, images.dtype, labels.shape, labels.dtype)
        if shape not in self._records:
            if len(self._records) == MOST_RECORDED:
                self._step(images, labels)
                return
            self._records[shape] = _on_fixed_tensors(self._step, images, labels, self._recorder)
        self._records[shape](images, labels)


def _on_fixed_tensors(
    step: LocalStep, images: Tensor, labels: Tensor, recorder: Recorder
) -> Callable[[Tensor, Tensor], None]:
    """Return a recorded step that first copies every batch to the same tensors."""
    own = torch.empty_like(images), torch.empty_like(labels)
    recorded = recorder(partial(step, *own), images.device)

    def advance(images: Tensor, labels: Tensor) -> None:
        own[0].copy_(images)
        own[1].copy_(labels)
        with recorded.stream():
            recorded()
        # Other work, such as a step of another shape, goes on where this one has ended.
        recorded.join()

    return advance
