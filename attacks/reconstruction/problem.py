"""The captured payload as a descent direction, and the simulation of it for candidate images."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from attacks.gradients import gradient_of, unroll
from attacks.knowledge import Knowledge, LocalSGD
from attacks.payload import Payload
from attacks.reconstruction.defended import noise_deviation
from attacks.reconstruction.first_adam_step import clamped, undo_first_step
from attacks.reconstruction.hooks import collect_layer_inputs, last_linear
from attacks.reconstruction.labels import apply_rule, output_layer, snap_mixture
from attacks.reconstruction.output_layer import LabelRule, OutputLayer, Outputs

PROBES = 64
"""Number of random images that stand for public ones, and of public images in a forward pass."""

MOST_PUBLIC = 512
"""Largest number of public images whose outputs are computed."""

MOST_BATCHES = 128
"""Largest number of batches of public images in training mode."""

ON_IMAGES = frozenset(
    {"flip-crop", "cutout", "maxup", "ats", "adversarial-poisoning", "pixel-noise"}
)
"""Names of defenses that change images only, so that the gradient is that of a plain batch."""

SIGN_PRESERVING = ON_IMAGES | {*("dp-sgd", "clip-noise", "pruning", "soteria", "lr-perturbation")}
"""Names of defenses that change no sign of the bias gradient, unless they add noise."""

SOFTNESS = 0.1
"""Softness of Adam's steps in an attack; see ``unroll``. Of 0.01, 0.1 and 1 it gave the highest
PSNR on two images (a convolutional network on Fashion-MNIST, one step of Adam)."""

Simulate = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Function from normalised images and labels to the descent that a client would send for them."""


@dataclass(frozen=True)
class EarlierUpdate:
    """An update of the same images in an earlier round.

    Attributes:
        global_state: Parameters and buffers that the client started from, by name.
        payload: Gradient or weights that the client sent.
        knowledge: Assumptions of the attacker. Its labels are not used, and its order refers to the
            images in the order of the latest update.
    """

    global_state: Mapping[str, Tensor] = field(repr=False)
    payload: Payload
    knowledge: Knowledge


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
        guesses: Reasons why labels were guessed, one for each time.
        earlier: Updates of the same images in earlier rounds.
    """

    model: nn.Module
    parameters: Mapping[str, Tensor] = field(repr=False)
    buffers: Mapping[str, Tensor] = field(repr=False)
    target: Mapping[str, Tensor] = field(repr=False)
    payload: Payload
    knowledge: Knowledge
    blocks: tuple[Tensor, ...] = field(repr=False)
    limits: Mapping[str, Tensor] | None = field(default=None, repr=False)
    guesses: list[str] = field(default_factory=list, repr=False)
    earlier: tuple["Problem", ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        global_state: Mapping[str, Tensor],
        payload: Payload,
        knowledge: Knowledge,
        earlier: Sequence[EarlierUpdate] = (),
    ) -> "Problem":
        """Make a problem after a check that network, capture and knowledge fit each other.

        Tensors of another precision are converted.

        Args:
            model: The architecture, on the device to compute on.
            global_state: Parameters and buffers that the client started from, by name.
            payload: Gradient or weights that the client sent.
            knowledge: Assumptions of the attacker.
            earlier: Updates of the same images in earlier rounds.

        Raises:
            ValueError: If tensors are missing, unknown or of another shape, the payload holds
                weights and ``knowledge.local`` is ``None``, or an earlier update is of another
                number of images.
        """
        names = [name for name, _ in model.named_parameters()]
        _check_network(model, names, global_state, payload, knowledge.hidden)
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
            earlier=tuple(_earlier(model, each, knowledge) for each in earlier),
        )

    def on(self, model: nn.Module) -> "Problem":
        """Return the problem with another copy of the network."""
        return replace(self, model=model, earlier=tuple(each.on(model) for each in self.earlier))

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
        self,
        images: Tensor,
        labels: Tensor,
        *,
        point: Tensor | float | None = None,
        create_graph: bool = True,
    ) -> dict[str, Tensor]:
        """Compute what the client would have sent for these images, in the form of ``target``.

        Args:
            images: float ``[n, channels, height, width]``, normalised.
            labels: int64 ``[n]`` or soft ``[n, classes]``.
            point: Take all local steps of SGD for gradients of all images at this point between the
                global weights, 0, and the client's weights, 1; ``None`` simulates each step.
            create_graph: Keep the graph, so that the result can be differentiated.
        """
        known = self.knowledge
        if point is not None and known.local is not None:
            return self._simulate_at(point, images, labels, known.local, create_graph=create_graph)
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
                decay = known.local.decay_factor(self.parameters.values())
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

    def _simulate_at(
        self,
        point: Tensor | float,
        images: Tensor,
        labels: Tensor,
        local: LocalSGD,
        *,
        create_graph: bool,
    ) -> dict[str, Tensor]:
        """The descent of local steps that all have the gradient at one point."""
        if isinstance(point, Tensor) and not create_graph:
            point = point.detach()
        moved = {name: point * tensor for name, tensor in self.target.items()}
        # Weights of which the payload says nothing are assumed to stay.
        weights = {n: p - moved[n] if n in moved else p for n, p in self.parameters.items()}
        gradient = gradient_of(
            self.model,
            weights,
            self.buffers,
            images,
            labels,
            clipping_norm=self.knowledge.clipping_norm,
            batch_size=self.payload.num_examples,
            create_graph=create_graph,
        )
        decay = local.decay_factor(weights.values())
        length = self._step_length
        return {
            name: length * (gradient[name] + decay * weights[name] - local.proximal_mu * drift)
            for name, drift in moved.items()
        }

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
        length = self._step_length
        if local.adaptive:
            # What Adam moves along the weights by its decay is below the rounding of a sign.
            return {name: tensor / length for name, tensor in self.target.items()}
        decay = local.decay_factor(self.parameters.values())
        return {
            name: tensor / length - decay * self.parameters[name]
            for name, tensor in self.target.items()
        }

    @property
    def _step_length(self) -> float:
        """Ratio of the target to the mean gradient, such as learning rate times steps."""
        local = self.knowledge.local
        if self.payload.kind == "gradient" or local is None:
            return 1.0
        if local.adaptive:
            return 1.0 if self.limits is not None else local.lr * self.payload.steps
        # Momentum adds the gradients of earlier steps to each later one.
        return sum(
            local.lr * (1 - local.momentum**left) / (1 - local.momentum)
            for left in range(1, self.payload.steps + 1)
        )

    def infer_labels(self, rule: str | LabelRule, generator: torch.Generator) -> Tensor:
        """Infer the labels of the images from the payload, or guess where it says nothing of them.

        Args:
            rule: A label rule or its name, a key of ``LABEL_RULES``.
            generator: CPU generator of the random images that stand for public ones where there
                are none, and of the order of public ones in batches.

        Returns:
            int64 ``[n]``, or soft ``[n, classes]`` for mixed images.

        Raises:
            ValueError: If the rule is not for this payload or number of images.
        """
        known = self.knowledge
        outputs = self.outputs(generator)
        labels, guessed = apply_rule(
            rule, self.last_layer(outputs), known.num_images, outputs.mean.to(self.device)
        )
        if guessed:
            self.guesses.append(guessed)
        # Soft labels are the mean label of the batch, which mixing restricts to certain values.
        return snap_mixture(labels, k=known.label_parts) if labels.is_floating_point() else labels

    def last_layer(self, outputs: Outputs) -> OutputLayer:
        """The gradient of the last layer, with what label rules may know beside it.

        Args:
            outputs: Outputs of the network for public images.
        """
        known, local, several = self.knowledge, self.knowledge.local, self.payload.steps > 1
        gradient = self.mean_gradient()
        layer = output_layer(gradient, known.num_classes)
        noisy = bool(known.noise_multiplier or known.update_noise)
        adaptive = local is not None and local.adaptive
        drift = local is not None and several and (local.weight_decay or local.proximal_mu)
        names = list(gradient)[-2:] if layer.has_bias else list(gradient)[-1:]
        # Over several epochs the mean of the first and last weights is closest to those of the
        # steps. In one epoch each image is seen once: those of the first step at the first weights.
        drifted = local is not None and local.epochs > 1 and several
        start = {
            name: self.parameters[name] - (self.target[name] / 2 if drifted else 0)
            for name in names
        }
        linear = outputs.features is not None
        return replace(
            layer,
            weights=start[names[0]].flatten(1) if linear and start[names[0]].ndim > 1 else None,
            bias=start[names[-1]] if layer.has_bias else None,
            outputs=outputs,
            certain=not (noisy or drift or (adaptive and several))
            and SIGN_PRESERVING.issuperset(known.defenses),
            plain=not adaptive and ON_IMAGES.issuperset(known.defenses),
            rounding=max(self.rounding(name) for name in names),
            noise=self.noise,
        )

    @property
    def noise(self) -> float:
        """Standard deviation of the noise on each entry of the mean gradient; 0 without noise."""
        return noise_deviation(self.payload, self.knowledge) / self._step_length

    def rounding(self, name: str) -> float:
        """Rounding error of a tensor's change, as a share of its largest entry.

        Weights are rounded relative to their own size, which is far above their change by a local
        step. A gradient is rounded relative to itself, so the result is 0.
        """
        if self.payload.kind == "gradient":
            return 0.0
        largest, change = self.parameters[name].abs().max(), self.target[name].abs().max()
        return float(2 * torch.finfo(largest.dtype).eps * largest / change)

    def outputs(self, generator: torch.Generator) -> Outputs:
        """Outputs of the network for public images, or for noise where there are none.

        In training mode BatchNorm layers normalise by the batch, so these are of the client's size.

        Args:
            generator: CPU generator of the noise, or of the order of public images.
        """
        known, public = self.knowledge, self.knowledge.public
        labels = None
        if public is None:
            noise = torch.randn((PROBES, *known.image_shape), generator=generator)
            batches = torch.split(noise.to(self.device), PROBES)
        else:
            size, used = PROBES, min(MOST_PUBLIC, len(public.images))
            if known.training_mode:
                # A last batch of another size would have other statistics.
                size = min(len(self.blocks[0]), used)
                used = min(used // size, MOST_BATCHES) * size
            order = torch.randperm(len(public.images), generator=generator)[:used]
            images = self.normalise(public.images[order.to(public.images.device)])
            if known.mixture_size:  # the client's images are mixtures of as many
                turns = range(known.mixture_size)
                images = torch.stack([images.roll(turn, 0) for turn in turns]).mean(0)
                public = replace(public, labels=None)
            batches = torch.split(images, size)
            labels = (
                None if public.labels is None else public.labels[order.to(public.labels.device)]
            )
        logits, features = [], []
        state = {**self.parameters, **{n: b.clone() for n, b in self.buffers.items()}}
        with torch.no_grad(), collect_layer_inputs(self.model) as inputs:
            for batch in batches:
                logits.append(functional_call(self.model, state, (batch,)))
                features.append(inputs.features)
        probabilities = torch.cat(logits).softmax(1)
        found = [one for one in features if one is not None]
        likely = probabilities.argmax(1)
        return Outputs(
            probabilities,
            torch.cat(found) if self._ends_in(found) else None,
            likely if labels is None else labels.to(likely),
            labelled=labels is not None,
        )

    def _ends_in(self, features: list[Tensor]) -> bool:
        """True if the last linear layer, which has these inputs, is the last layer of all."""
        name = last_linear(self.model)
        own = [one for one in self.parameters if name and one.startswith(f"{name}.")]
        fits = bool(own) and list(self.parameters)[-len(own) :] == own
        return fits and bool(features) and all(one.ndim == 2 for one in features)


def _earlier(model: nn.Module, update: EarlierUpdate, knowledge: Knowledge) -> Problem:
    if update.knowledge.num_images != knowledge.num_images:
        raise ValueError(
            f"an earlier update averages {update.knowledge.num_images} images and the latest "
            f"{knowledge.num_images}, so they are not of the same images"
        )
    return Problem.of(model, update.global_state, update.payload, update.knowledge)


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
    model: nn.Module,
    names: list[str],
    global_state: Mapping[str, Tensor],
    payload: Payload,
    hidden: Collection[str],
) -> None:
    given = {*payload.tensors, *hidden}
    if missing := [n for n in names if n not in global_state or n not in given]:
        raise ValueError(
            f"{missing[0]} of the network is missing from the capture: is it another network?"
        )
    if more := sorted(set(payload.tensors) - set(names)):
        raise ValueError(f"{more[0]} of the capture is not in the network: is it another network?")
    for name, parameter in model.named_parameters():
        received = payload.tensors.get(name, parameter)
        shapes = {tuple(t.shape) for t in (parameter, global_state[name], received)}
        if len(shapes) > 1:
            raise ValueError(f"{name} has different shapes in network and capture: {shapes}")
