"""The captured payload as a descent direction, and the simulation of it for candidate images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from attacks.gradients import gradient_of, unroll
from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.first_adam_step import clamped, undo_first_step
from attacks.reconstruction.labels import LabelRule, infer_labels, snap_mixture

PROBES = 64
"""Number of random images whose mean output approximates that of the client's images."""

SOFTNESS = 0.1
"""Softness of Adam's steps in an attack; see ``unroll``. Of 0.01, 0.1 and 1 it gave the highest
PSNR on two images (a convolutional network on Fashion-MNIST, one step of Adam)."""

Simulate = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Function from normalised images and labels to the descent that a client would send for them."""


@dataclass(frozen=True)
class Problem:
    """A captured payload and all that is known about it.

    Attributes:
        model: The architecture, in the client's mode.
        parameters: Parameters that the client started from, by name.
        buffers: Buffers that the client started from, by name.
        target: Descent to match, by parameter name: the gradient itself, or the global weights
            minus the client's weights.
        payload: The captured payload.
        knowledge: Assumptions of the attacker.
        blocks: Indices of the images of each local step, int64, on the device.
        limits: Sizes up to which the entries of a gradient are compared, by parameter name, where a
            first step of Adam was undone (``target`` is then that gradient); otherwise ``None``.
    """

    model: nn.Module
    parameters: Mapping[str, Tensor] = field(repr=False)
    buffers: Mapping[str, Tensor] = field(repr=False)
    target: Mapping[str, Tensor] = field(repr=False)
    payload: Payload
    knowledge: Knowledge
    blocks: tuple[Tensor, ...] = field(repr=False)
    limits: Mapping[str, Tensor] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        global_state: Mapping[str, Tensor],
        payload: Payload,
        knowledge: Knowledge,
    ) -> "Problem":
        """Make a problem after a check that network, capture and knowledge fit each other.

        Tensors of another precision are converted.

        Args:
            model: The architecture, on the device to compute on.
            global_state: Parameters and buffers that the client started from, by name.
            payload: Gradient or weights that the client sent.
            knowledge: Assumptions of the attacker.

        Raises:
            ValueError: If tensors are missing, unknown or of another shape, or the payload holds
                weights and ``knowledge.local`` is ``None``.
        """
        names = [name for name, _ in model.named_parameters()]
        _check_network(model, names, global_state, payload)
        own = dict(model.named_parameters())
        parameters = {name: global_state[name].detach().to(own[name]) for name in names}
        target = {name: tensor.to(own[name]) for name, tensor in payload.tensors.items()}
        limits = None
        if payload.kind == "weights":
            if knowledge.local is None:
                raise ValueError("weights can only be attacked if the client's local SGD is known")
            received = {name: payload.tensors[name].to(own[name].device) for name in target}
            target = {name: parameters[name] - weights for name, weights in target.items()}
            if knowledge.local.adaptive and len(knowledge.blocks) == 1:
                undone = undo_first_step(parameters, received, knowledge.local)
                target, limits = undone or (target, None)
        device = next(iter(parameters.values())).device
        return cls(
            model=model,
            parameters=parameters,
            buffers=_buffers(model, global_state),
            target=target,
            payload=payload,
            knowledge=knowledge,
            blocks=tuple(places.to(device) for places in knowledge.blocks),
            limits=limits,
        )

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(iter(self.parameters.values())).device

    @property
    def pixel_range(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest normalised pixel, ``[1, channels, 1, 1]`` each."""
        mean, std = self._normalisation
        return (0 - mean) / std, (1 - mean) / std

    def pixels(self, images: Tensor) -> Tensor:
        """Convert normalised images to pixels in [0, 1]."""
        mean, std = self._normalisation
        return (images * std + mean).clamp(0, 1)

    def normalise(self, images: Tensor) -> Tensor:
        """Convert pixels in [0, 1] to the network's input."""
        mean, std = self._normalisation
        return (images.to(self.device) - mean) / std

    @property
    def _normalisation(self) -> tuple[Tensor, Tensor]:
        known = self.knowledge
        mean = torch.tensor(known.mean, device=self.device).view(1, -1, 1, 1)
        return mean, torch.tensor(known.std, device=self.device).view(1, -1, 1, 1)

    def simulate(
        self, images: Tensor, labels: Tensor, *, create_graph: bool = True
    ) -> dict[str, Tensor]:
        """Compute what the client would have sent for these images, in the form of ``target``.

        Args:
            images: float ``[n, channels, height, width]``, normalised.
            labels: int64 ``[n]`` or soft ``[n, classes]``.
            create_graph: Keep the graph, so that the result can be differentiated.
        """
        known = self.knowledge
        if self.payload.kind == "gradient" or known.local is None or self.limits is not None:
            gradient = gradient_of(
                self.model,
                self.parameters,
                self.buffers,
                images,
                labels,
                clipping_norm=known.clipping_norm,
                # DP-SGD divides by the expected batch size, also for a Poisson batch.
                batch_size=self.payload.num_examples,
                create_graph=create_graph,
            )
            if self.limits is None or known.local is None:
                return gradient
            if known.local.optimiser == "adam":
                decay = known.local.weight_decay
                gradient = {n: g + decay * self.parameters[n] for n, g in gradient.items()}
            return clamped(gradient, self.limits)
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
            softness=SOFTNESS if create_graph else 0.0,
            create_graph=create_graph,
        )
        return {name: self.parameters[name] - after[name] for name in after}

    def mean_gradient(self) -> dict[str, Tensor]:
        """The payload as the mean gradient of a local step, from which labels can be inferred.

        The result is exact for one step. For several steps, weight decay is approximated by that
        of the first step. Steps of Adam are not linear in the gradient: their entries have the
        right signs, but large ones are too small beside small ones, so that of a batch only the
        classes can be inferred and not how often they occur.
        """
        local = self.knowledge.local
        if self.payload.kind == "gradient" or local is None:
            return dict(self.payload.tensors)
        if local.adaptive:
            # What Adam moves along the weights by its decay is below the rounding of a sign.
            scale = 1.0 if self.limits is not None else 1 / (local.lr * self.payload.steps)
            return {name: tensor * scale for name, tensor in self.target.items()}
        # Momentum adds the gradients of earlier steps to each later one.
        steps = sum(
            local.lr * (1 - local.momentum**left) / (1 - local.momentum)
            for left in range(1, self.payload.steps + 1)
        )
        return {
            name: tensor / steps - local.weight_decay * self.parameters[name]
            for name, tensor in self.target.items()
        }

    def infer_labels(self, rule: str | LabelRule, generator: torch.Generator) -> Tensor:
        """Infer the labels of the images from the payload.

        Args:
            rule: A label rule or its name, a key of ``LABEL_RULES``.
            generator: CPU generator of the random images that give the expected output.

        Returns:
            int64 ``[n]``, or soft ``[n, classes]`` for mixed images.

        Raises:
            ValueError: If the rule cannot work on the payload.
        """
        known = self.knowledge
        labels = infer_labels(
            self.mean_gradient(),
            num_images=known.num_images,
            probabilities=self.expected_output(generator),
            rule=rule,
        )
        # Soft labels are the mean label of the batch, which mixing restricts to certain values.
        return snap_mixture(labels, k=known.label_parts) if labels.is_floating_point() else labels

    def rounding(self, name: str) -> float:
        """Rounding error of a tensor's change, as a share of its largest entry.

        Weights are rounded relative to their own size, which is far above their change by a local
        step. A gradient is rounded relative to itself, so the result is 0.
        """
        if self.payload.kind == "gradient":
            return 0.0
        largest, change = self.parameters[name].abs().max(), self.target[name].abs().max()
        return float(2 * torch.finfo(largest.dtype).eps * largest / change)

    def expected_output(self, generator: torch.Generator) -> Tensor:
        """Mean softmax output of the network on noise, float ``[classes]``."""
        probes = torch.randn((PROBES, *self.knowledge.image_shape), generator=generator)
        with torch.no_grad():
            state = {**self.parameters, **{n: b.clone() for n, b in self.buffers.items()}}
            output: Tensor = functional_call(self.model, state, (probes.to(self.device),))
            return output.softmax(1).mean(0)


def _buffers(model: nn.Module, global_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Buffers that the server sent, and the network's own where they are not part of its state."""
    in_state = model.state_dict().keys()
    found = {}
    for name, own in model.named_buffers():
        if name in in_state and name not in global_state:
            raise ValueError(f"the buffer {name} of the network is missing from the global state")
        found[name] = global_state[name].to(own) if name in in_state else own.detach()
    return found


def _check_network(
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
