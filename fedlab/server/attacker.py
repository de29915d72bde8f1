"""The attacker hidden in the server: it reads Captures and rebuilds the images behind them.

It knows what any server knows (the network, what it asked for, what came back) and, in
diagnostic runs only, the labels that the threat model grants. Where the server was malicious it
takes what it laid out for itself: imprints are read out, fished images are rebuilt apart.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attacks.knowledge import MOST_IMAGES, Knowledge
from attacks.malicious_server.rebuild import read_imprints, single_out
from attacks.payload import Payload
from attacks.reconstruction import (
    PRESETS,
    AttackSettings,
    Consistency,
    Reconstruction,
    consistency,
    invert,
)
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.watch import Watch
from fedlab.scenario.tables import Reconstruct
from fedlab.server.captures import Capture


@dataclass(frozen=True)
class Attacker:
    """Attacks Captures with one network, its own copy.

    Attributes:
        model: The architecture of the federation; its weights are never used.
        shape: Channels, height and width of an image.
        num_classes: Of the data set.
        mean: Of the public normalisation, per channel.
        std: Likewise.
        device: Where to compute.
    """

    model: nn.Module
    shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device

    def attack(
        self,
        capture: Capture,
        settings: Reconstruct,
        *,
        labels: Tensor | None,
        generator: torch.Generator,
        order: tuple[Tensor, ...] | None = None,
        watch: Watch | None = None,
    ) -> Reconstruction:
        """Rebuild the images behind a Capture.

        Args:
            capture: What the server saw.
            settings: Which preset, and what replaces its values.
            labels: Granted labels ``[n]`` or soft ``[n, classes]``; ``None`` infers them.
            generator: Of the starting images; the attacker's own, unrelated to the clients'.
            order: Granted order of the images in local steps; ``None`` assumes one.
            watch: Called now and then with the progress.

        Raises:
            ValueError: If the payload cannot be attacked, such as one of too many images.
        """
        model, on_device, payload = self._at_hand(capture)
        target, trapped = capture.announced.target, capture.announced.malicious
        knowledge = self.knowledge(capture, settings, labels, order)
        if trapped == "imprint":
            return read_imprints(model, on_device, payload, knowledge)
        if target is not None:
            payload, knowledge = single_out(on_device, payload, knowledge, target=target)
        if knowledge.num_images > MOST_IMAGES:
            raise ValueError(
                f"the update of {capture.of} in round {capture.round} averages "
                f"{knowledge.num_images} images; more than {MOST_IMAGES} are not attacked"
            )
        attack = attack_of(settings)
        rebuilt = invert(
            model,
            on_device,
            payload,
            knowledge,
            adapted(attack, payload, knowledge, sent=on_device) if settings.adapt else attack,
            generator=generator,
            seconds=settings.seconds,
            workers=settings.workers,
            watch=watch,
        )
        # The label of a fished image is no grant: the server chose it.
        return rebuilt if trapped is None else replace(rebuilt, labels_known=False)

    def consistency(
        self,
        capture: Capture,
        images: Tensor,
        labels: Tensor,
        order: tuple[Tensor, ...] | None = None,
    ) -> Consistency:
        """How near the update that images would cause is to a captured one.

        Args:
            capture: What the server saw.
            images: float ``[n, channels, height, width]``, normalised.
            labels: int64 ``[n]`` or soft ``[n, classes]``.
            order: Places of the images of each local step; ``None`` assumes one.

        Raises:
            ValueError: If the payload cannot be simulated.
        """
        model, on_device, payload = self._at_hand(capture)
        knowledge = self.knowledge(capture, Reconstruct(), labels, order)
        return consistency(model, on_device, payload, knowledge, images, labels)

    def _at_hand(self, capture: Capture) -> tuple[nn.Module, dict[str, Tensor], Payload]:
        """The network, the global state and the payload, all on the device."""
        state = {name: value.to(self.device) for name, value in capture.global_state.items()}
        return self.model.to(self.device), state, capture.payload.to(self.device)

    def knowledge(
        self,
        capture: Capture,
        settings: Reconstruct,
        labels: Tensor | None = None,
        order: tuple[Tensor, ...] | None = None,
    ) -> Knowledge:
        """What the attacker is assumed to know beside the Capture."""
        granted = None if labels is None else labels.to(self.device)
        known = capture.announced.knowledge(
            shape=self.shape,
            num_classes=self.num_classes,
            mean=self.mean,
            std=self.std,
            kind=capture.payload.kind,
            num_images=capture.payload.num_examples if granted is None else len(granted),
        )
        assumed = "sequential" if settings.order == "known" else settings.order
        training = known.training_mode if settings.mode == "announced" else settings.mode == "train"
        return replace(
            known,
            labels=granted,
            order=assumed if order is None else order,
            training_mode=training,
        )


def attack_of(settings: Reconstruct) -> AttackSettings:
    """The preset of a scenario's entry, with the values that the entry replaces."""
    attack = PRESETS[settings.preset]
    replaced = {"iterations", "tv", "lr", "restarts", "objective", "mask", "patience"}
    return replace(attack, **settings.model_dump(include=replaced, exclude_none=True))
