"""The attacker in the server: it reads captures and reconstructs the images behind them.

It knows what any server knows (the network, the round facts, the replies) and, in diagnostic runs
only, the true labels or order of the images. A malicious server evaluates its own manipulation:
imprints and caught images are read out, fished images are reconstructed separately, and of a
suppressed sum one client's update is left.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attacks.knowledge import MOST_IMAGES, Knowledge, PublicImages
from attacks.malicious_server.rebuild import read_imprints, read_traps, single_out
from attacks.payload import Payload
from attacks.reconstruction import (
    AttackSettings,
    Consistency,
    EarlierUpdate,
    Problem,
    Reconstruction,
    consistency,
    invert,
)
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.plausibility import implausible
from attacks.reconstruction.presets import PRIOR_FIELDS
from attacks.reconstruction.watch import Watch
from fedlab.core.attack_plugins import ATTACKS, LABEL_RULES, OBJECTIVES, PRIORS, component, preset
from fedlab.core.plugins import PluginFailed
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attack_memory import refuse_beyond_memory
from fedlab.server.captures import IMPRINT, SUPPRESSED, TRAPPED, Capture

log = logging.getLogger(__name__)

REPLACED = {"iterations", "tv", "lr", "restarts", "mask", "patience", "local_steps"}
"""Keys of ``Reconstruct`` that replace fields of the preset with the same name."""

CHOSEN = {"method": ATTACKS, "objective": OBJECTIVES, "label_rule": LABEL_RULES}
"""Keys of ``Reconstruct`` that name a plug-in, with its registry."""


class Target(NamedTuple):
    """What an attack works on.

    Attributes:
        model: The network.
        global_state: Parameters and buffers that the server sent, by name.
        payload: The payload to reconstruct images from.
        knowledge: Assumptions of the attacker about it.
    """

    model: nn.Module
    global_state: dict[str, Tensor]
    payload: Payload
    knowledge: Knowledge


class Earlier(NamedTuple):
    """An earlier capture of the images of an attacked one.

    Attributes:
        capture: The captured update.
        order: Known order in its local steps, as indices of the images of the attacked capture;
            ``None`` to assume one.
    """

    capture: Capture
    order: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class Attacker:
    """Attacks captures with its own copy of the network.

    Attributes:
        model: The architecture of the federation; its weights are not used.
        shape: Channels, height and width of an image.
        num_classes: Number of classes in the data set.
        mean: Mean of the public normalisation for each channel.
        std: Standard deviation of the public normalisation for each channel.
        device: Device to compute on.
        public: Public images that the attacker has, on the CPU; ``None`` for none.
    """

    model: nn.Module
    shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    public: PublicImages | None = None

    def attack(
        self,
        capture: Capture,
        settings: Reconstruct,
        *,
        labels: Tensor | None,
        generator: torch.Generator,
        order: tuple[Tensor, ...] | None = None,
        earlier: Sequence[Earlier] = (),
        attack: AttackSettings | None = None,
        check: bool = True,
        watch: Watch | None = None,
    ) -> Reconstruction:
        """Reconstruct the images behind a capture.

        Args:
            capture: The captured update.
            settings: Preset, and the settings that replace its values.
            labels: Known labels ``[n]`` or soft ``[n, classes]``; ``None`` to infer them.
            generator: CPU generator of the initial images, unrelated to those of the clients.
            order: Known order of the images in local steps; ``None`` to assume one.
            earlier: Earlier captures of the same images, which are attacked jointly.
            attack: Settings that were tuned for this kind of client; ``None`` uses those of the
                preset, adapted to the defense.
            check: Look for signs that the client did not train as it was asked to.
            watch: Callback that receives the progress.

        Raises:
            ValueError: If the payload cannot be attacked, such as one of too many images for the
                entry or for the free memory.
            PluginFailed: If a plug-in of the attack fails.
        """
        malicious = capture.facts.malicious
        model, global_state, payload, knowledge = self.target(capture, settings, labels, order)
        if malicious == IMPRINT:
            return read_imprints(model, global_state, payload, knowledge)
        if malicious == TRAPPED:
            return read_traps(model, global_state, payload, knowledge, adapt=settings.adapt)
        most = most_images(settings)
        if knowledge.num_images > most:
            raise ValueError(
                f"the update averages {knowledge.num_images} images; more than {most} are not "
                "attacked (most_images)"
            )
        findings: tuple[str, ...] = ()
        if check:
            findings = self._implausible(capture, model, global_state, payload, knowledge)
        if attack is None:
            attack = attack_of(settings)
            if settings.adapt:
                attack = adapted(
                    attack, payload, knowledge, sent=global_state, rounds=1 + len(earlier)
                )
        before = self.earlier_updates(earlier, settings)
        refuse_beyond_memory(Problem.of(model, global_state, payload, knowledge, before), attack)
        found = invert(
            model,
            global_state,
            payload,
            knowledge,
            attack,
            generator=generator,
            earlier=before,
            seconds=settings.seconds,
            workers=settings.workers,
            watch=watch,
        )
        if found.images.shape[1:] != self.shape or len(found.labels) != len(found.images):
            raise PluginFailed(
                f"the attack returned images of shape {list(found.images.shape)} with "
                f"{len(found.labels)} labels; images are [n, {', '.join(map(str, self.shape))}]"
            )
        found = replace(found, findings=findings)
        # The server chose the label of a fished image, so it is not known from the client.
        return found if malicious is None else replace(found, labels_known=False)

    def check_memory(
        self, capture: Capture, settings: Reconstruct, earlier: Sequence[Earlier] = ()
    ) -> None:
        """Refuse an attack that would take more memory than is free, before it is tuned.

        Args:
            capture: The captured update.
            settings: Preset, and the settings that replace its values.
            earlier: Earlier captures of the same images, which are attacked jointly.

        Raises:
            ValueError: If it would.
        """
        model, global_state, payload, knowledge = self.target(capture, settings)
        if MOST_IMAGES < knowledge.num_images <= most_images(settings):
            before = self.earlier_updates(earlier, settings)
            problem = Problem.of(model, global_state, payload, knowledge, before)
            refuse_beyond_memory(problem, attack_of(settings))

    def target(
        self,
        capture: Capture,
        settings: Reconstruct,
        labels: Tensor | None = None,
        order: tuple[Tensor, ...] | None = None,
    ) -> Target:
        """What an attack on a capture works on, on the attacker's device.

        If the server fished for a class, it is the separated gradient of the fished images.

        Args:
            capture: The captured update.
            settings: Settings of the attack, of which order and mode are used.
            labels: Known labels; ``None`` if unknown.
            order: Known order of the images in local steps; ``None`` to assume one.

        Raises:
            ValueError: If the gradient of fished images cannot be separated.
        """
        model, global_state, payload = self._on_device(capture)
        knowledge = self.knowledge(capture, settings, labels, order)
        if (fished := capture.facts.target) is not None:
            payload, knowledge = single_out(global_state, payload, knowledge, target=fished)
        return Target(model, global_state, payload, knowledge)

    def earlier_updates(
        self, earlier: Sequence[Earlier], settings: Reconstruct
    ) -> tuple[EarlierUpdate, ...]:
        """Earlier captures as what an attack works on, on the attacker's device.

        Args:
            earlier: The captures.
            settings: Settings of the attack, of which order and mode are used.
        """
        return tuple(
            EarlierUpdate(*self._on_device(each)[1:], self.knowledge(each, settings, None, order))
            for each, order in earlier
        )

    def _implausible(
        self,
        capture: Capture,
        model: nn.Module,
        global_state: dict[str, Tensor],
        payload: Payload,
        knowledge: Knowledge,
    ) -> tuple[str, ...]:
        """Signs that a client did not train as it was asked to, which the log reports as well."""
        facts = capture.facts
        # Sums of clients, fished images and Poisson batches are no batch of the announced size.
        if facts.malicious is not None or facts.poisson or len(capture.clients) > 1:
            return ()
        surrogates = torch.Generator().manual_seed(0)  # not the attack's, whose draws stay
        found = implausible(model, global_state, payload, knowledge, generator=surrogates)
        for sentence in found:
            log.warning("round %d: %s: %s", capture.round, capture.of, sentence)
        return found

    def consistency(
        self,
        capture: Capture,
        images: Tensor,
        labels: Tensor,
        order: tuple[Tensor, ...] | None = None,
    ) -> Consistency:
        """Compare a capture with the simulated update of given images.

        Args:
            capture: The captured update.
            images: float ``[n, channels, height, width]``, normalised.
            labels: int64 ``[n]`` or soft ``[n, classes]``.
            order: Indices of the images of each local step; ``None`` to assume an order.

        Raises:
            ValueError: If the payload cannot be simulated.
        """
        model, global_state, payload = self._on_device(capture)
        knowledge = self.knowledge(capture, Reconstruct(), labels, order)
        return consistency(model, global_state, payload, knowledge, images, labels)

    def _on_device(self, capture: Capture) -> tuple[nn.Module, dict[str, Tensor], Payload]:
        """The network, the global state and the payload on the attacker's device."""
        state = {name: value.to(self.device) for name, value in capture.global_state.items()}
        return self.model.to(self.device), state, capture.payload.to(self.device)

    def knowledge(
        self,
        capture: Capture,
        settings: Reconstruct,
        labels: Tensor | None = None,
        order: tuple[Tensor, ...] | None = None,
    ) -> Knowledge:
        """Assumptions of the attacker about a capture.

        Args:
            capture: The captured update.
            settings: Settings of the attack, of which order and mode are used.
            labels: Known labels; ``None`` if unknown.
            order: Known order of the images in local steps; ``None`` to assume one.
        """
        known_labels = None if labels is None else labels.to(self.device)
        known = capture.facts.knowledge(
            shape=self.shape,
            num_classes=self.num_classes,
            mean=self.mean,
            std=self.std,
            kind=capture.payload.kind,
            num_images=capture.payload.num_examples if labels is None else len(labels),
        )
        assumed = "sequential" if settings.order == "known" else settings.order
        training = known.training_mode if settings.mode == "announced" else settings.mode == "train"
        return replace(
            known,
            labels=known_labels,
            order=assumed if order is None else order,
            training_mode=training,
            public=self.public,
            hidden=self._hidden(capture),
        )

    def _hidden(self, capture: Capture) -> frozenset[str]:
        """Parameters of which a suppressed sum says nothing about the target."""
        if capture.facts.malicious != SUPPRESSED:
            return frozenset()
        names = {name for name, _ in self.model.named_parameters()}
        return frozenset(names.difference(capture.payload.tensors))


def most_images(entry: Reconstruct) -> int:
    """Largest number of images of an update that an entry attacks.

    Args:
        entry: A ``[[reconstructions]]`` entry.
    """
    return attack_of(entry).most_images if entry.most_images is None else entry.most_images


def attack_of(entry: Reconstruct) -> AttackSettings:
    """Settings of an attack: the preset of a scenario's entry with the values that it replaces.

    Args:
        entry: A ``[[reconstructions]]`` entry.

    Raises:
        BadInput: If a plug-in does not exist or cannot be imported.
        ValueError: If the settings do not fit each other.
    """
    attack = preset(entry.preset)
    changes: dict[str, Any] = entry.model_dump(include=REPLACED, exclude_none=True)
    for field, registry in CHOSEN.items():
        if (name := getattr(entry, field)) is not None:
            changes[field] = component(registry, name)
    further = []
    for name, weight in entry.priors or ():
        if name in PRIOR_FIELDS:
            changes[PRIOR_FIELDS[name]] = weight
        else:
            further.append((component(PRIORS, name), weight))
    return replace(attack, **changes, priors=(*attack.priors, *further))
