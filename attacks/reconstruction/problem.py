"""The captured payload as a direction of descent, and what simulates it for candidate images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from attacks.gradients import gradient_of, unroll
from attacks.knowledge import Knowledge
from attacks.payload import Payload

PROBES = 64
"""Random images whose mean output stands in for that of the client's images."""

Simulate = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""From normalised images and labels to the descent that a client would send for them."""


@dataclass(frozen=True)
class Problem:
    """A payload to be explained by images.

    Attributes:
        model: The architecture, in the client's mode.
        parameters: That the client started from, by name.
        buffers: Likewise.
        target: Of a gradient itself; of weights, what was taken off the global ones.
        payload: As captured.
        knowledge: Of the attacker.
        blocks: Places of the images of each local step, on the device.
    """

    model: nn.Module
    parameters: Mapping[str, Tensor] = field(repr=False)
    buffers: Mapping[str, Tensor] = field(repr=False)
    target: Mapping[str, Tensor] = field(repr=False)
    payload: Payload
    knowledge: Knowledge
    blocks: tuple[Tensor, ...] = field(repr=False)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        global_state: Mapping[str, Tensor],
        payload: Payload,
        knowledge: Knowledge,
    ) -> "Problem":
        """Check that network, capture and knowledge fit each other.

        Raises:
            ValueError: If tensors are missing, unknown or of another shape, or weights come
                without ``knowledge.local``. Numbers of another precision are converted.
        """
        names = [name for name, _ in model.named_parameters()]
        _refuse_other_networks(model, names, global_state, payload)
        own = dict(model.named_parameters())
        parameters = {name: global_state[name].detach().to(own[name]) for name in names}
        target = {name: tensor.to(own[name]) for name, tensor in payload.tensors.items()}
        if payload.kind == "weights":
            if knowledge.local is None:
                raise ValueError("weights can only be attacked if the client's local SGD is known")
            target = {name: parameters[name] - weights for name, weights in target.items()}
        device = next(iter(parameters.values())).device
        return cls(
            model=model,
            parameters=parameters,
            buffers=_buffers(model, global_state),
            target=target,
            payload=payload,
            knowledge=knowledge,
            blocks=tuple(places.to(device) for places in knowledge.blocks),
        )

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(iter(self.parameters.values())).device

    def simulate(
        self, images: Tensor, labels: Tensor, *, create_graph: bool = True
    ) -> dict[str, Tensor]:
        """What the client would have sent for these images, in the form of ``target``.

        Args:
            images: float ``[n, channels, height, width]``, normalised.
            labels: int64 ``[n]`` or soft ``[n, classes]``.
            create_graph: Whether the result can be differentiated.
        """
        known = self.knowledge
        if self.payload.kind == "gradient" or known.local is None:
            return gradient_of(
                self.model,
                self.parameters,
                self.buffers,
                images,
                labels,
                clipping_norm=known.clipping_norm,
                # DP-SGD divides by the expected size, whatever a Poisson batch has.
                batch_size=self.payload.num_examples,
                create_graph=create_graph,
            )
        after = unroll(
            self.model,
            self.parameters,
            self.buffers,
            images,
            labels,
            local=known.local,
            blocks=self.blocks,
            clipping_norm=known.clipping_norm,
            batch_size=min(known.local.batch_size, self.payload.num_examples),
            create_graph=create_graph,
        )
        return {name: self.parameters[name] - after[name] for name in after}

    def mean_gradient(self) -> dict[str, Tensor]:
        """The payload as the mean gradient of a local step, from which labels can be read.

        Exact for one step; of several, weight decay is taken as that of the first.
        """
        local = self.knowledge.local
        if self.payload.kind == "gradient" or local is None:
            return dict(self.payload.tensors)
        # Momentum sums the gradients of earlier steps into each later one.
        steps = sum(
            local.lr * (1 - local.momentum**left) / (1 - local.momentum)
            for left in range(1, self.payload.steps + 1)
        )
        return {
            name: tensor / steps - local.weight_decay * self.parameters[name]
            for name, tensor in self.target.items()
        }

    def rounding(self, name: str) -> float:
        """What rounding leaves of a tensor's change, as a part of its largest entry.

        Weights are rounded to their own size, which their change by a local step is far below; a
        gradient is rounded to its own, so this is 0.
        """
        if self.payload.kind == "gradient":
            return 0.0
        largest, change = self.parameters[name].abs().max(), self.target[name].abs().max()
        return float(2 * torch.finfo(largest.dtype).eps * largest / change)

    def expected_output(self, generator: torch.Generator) -> Tensor:
        """Mean softmax output for noise, float ``[classes]``."""
        probes = torch.randn((PROBES, *self.knowledge.image_shape), generator=generator)
        with torch.no_grad():
            state = {**self.parameters, **{n: b.clone() for n, b in self.buffers.items()}}
            output: Tensor = functional_call(self.model, state, (probes.to(self.device),))
            return output.softmax(1).mean(0)


def _buffers(model: nn.Module, global_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the server sent, and the network's own where they are not part of its state."""
    kept = model.state_dict().keys()
    found = {}
    for name, own in model.named_buffers():
        if name in kept and name not in global_state:
            raise ValueError(f"the buffer {name} of the network is missing from the global state")
        found[name] = global_state[name].to(own) if name in kept else own.detach()
    return found


def _refuse_other_networks(
    model: nn.Module, names: list[str], global_state: Mapping[str, Tensor], payload: Payload
) -> None:
    if missing := [n for n in names if n not in global_state or n not in payload.tensors]:
        raise ValueError(
            f"{missing[0]} of the network is missing from the capture: is it another network?"
        )
    if more := sorted(set(payload.tensors) - set(names)):
        raise ValueError(f"{more[0]} of the capture is not in the network: is it another network?")
    for name, parameter in model.named_parameters():
        shapes = {tuple(t.shape) for t in (parameter, global_state[name], payload.tensors[name])}
        if len(shapes) > 1:
            raise ValueError(f"{name} has different shapes in network and capture: {shapes}")
