"""The learned inverter: a network that is trained on surrogate clients of a captured update.

It is trained for the weights and the defense of one capture, so an attack on another round costs
another training. Its images are disjoint from those on which it decides when to stop, and from
those on which power is measured.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from attacks.reconstruction.inverter_training import MOST, Example, train_inverter
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.tuning import Tuning
from attacks.reconstruction.update_reader import UpdateReader
from fedlab.client.federated_data import FederatedData
from fedlab.core.progress import Tell, progress
from fedlab.core.seeds import generator
from fedlab.evaluation.surrogates import (
    ClientProfile,
    SurrogateCapture,
    images_dealt,
    surrogate_examples,
)
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import Attacker, attack_of
from fedlab.server.captures import Capture

METHOD = "learned"
"""Name of the method in settings."""

EXAMPLES = 8_192
"""Number of simulated clients to train on, unless the scenario says more or less."""

REPEATS = 8
"""Largest number of simulated clients for each public image; more teach little."""

HELD_OUT = 10
"""One of so many public images is held out, to tell when to stop."""


@dataclass(frozen=True)
class InverterTraining:
    """Everything that a learned inverter is trained with.

    Attributes:
        federated: Data of the federation, of which the test images stand for public ones.
        attacker: The attacker.
        capture: The captured update.
        profiles: The clients to simulate, with the defenses that they run.
        entry: Settings of the attack: ``iterations`` is the largest number of epochs,
            ``tuning_iterations`` the number of simulated clients.
        reserved: Numbers of ``surrogate_captures`` whose images are not for training.
    """

    federated: FederatedData
    attacker: Attacker
    capture: Capture
    profiles: Sequence[ClientProfile]
    entry: Reconstruct
    reserved: int

    def run(self) -> Tuning:
        """Simulate the clients and train the network.

        Returns:
            The settings of the attack, whose method is the trained network.

        Raises:
            ValueError: If there are too many images behind the update or too few public ones, the
                server is malicious, or no simulated client sends anything.
        """
        started = time.perf_counter()
        attack, images = attack_of(self.entry), self._check()
        public = len(self.federated.data.test_labels)
        size = images_dealt(self.profiles, public)
        kept = self.reserved * size
        rest = public - kept
        if rest < 2 * size:
            raise ValueError(
                f"the attack learned needs at least {kept + 2 * size} public images to simulate "
                f"clients of {images}, but there are {public}: raise data.test"
            )
        held = max(size, rest // HELD_OUT)
        count = min(self.entry.tuning_iterations or EXAMPLES, REPEATS * rest)
        judges = -(-count // HELD_OUT)
        reader = self._reader()
        first = self.reserved + judges
        with progress("simulating clients", judges + count, unit="clients") as tell:
            held_out = self._examples(
                reader, range(self.reserved, first), slice(kept, kept + held), tell
            )
            examples = self._examples(
                reader, range(first, first + count), slice(kept + held, None), tell
            )
        with progress("training the learned inverter", attack.iterations, unit="epochs") as tell:
            inverter = train_inverter(
                examples,
                held_out,
                reader=reader,
                num_images=images,
                epochs=attack.iterations,
                generator=generator(self.federated.seed, "learned inverter"),
                tell=tell,
            )
        return Tuning(
            attack=replace(attack, method=inverter, tunes=False),
            iterations=len(inverter.costs),
            seconds=time.perf_counter() - started,
        )

    def _check(self) -> int:
        """The number of images behind the update.

        Raises:
            ValueError: If the attack cannot learn to invert it.
        """
        if self.capture.facts.malicious is not None:
            raise ValueError(
                "the attack learned is for servers that change nothing: choose another preset "
                "beside server.malicious"
            )
        images = sum(each.images for each in self.profiles)
        refuse_many(images)
        return images

    def _reader(self) -> UpdateReader:
        return UpdateReader.of(
            self.capture.payload.tensors,
            generator=generator(self.federated.seed, "bins of the learned inverter"),
            classes=self.federated.data.num_classes if self.entry.labels == "known" else 0,
        )

    def _examples(
        self, reader: UpdateReader, numbers: range, part: slice, tell: Tell
    ) -> list[Example]:
        return list(self._simulated(reader, numbers, part, tell))

    def _simulated(
        self, reader: UpdateReader, numbers: range, part: slice, tell: Tell
    ) -> Iterator[Example]:
        simulated = surrogate_examples(
            self.federated, self.profiles, self.capture, numbers=numbers, part=part
        )
        for each in simulated:
            tell(each.number - self.reserved + 1)
            target = self.attacker.target(each.capture, self.entry)
            problem = Problem.of(*target)
            labels = each.truth.labels if reader.classes else None
            yield Example(reader(problem.target, labels), _wanted(each).to(problem.device))


def refuse_many(images: int) -> None:
    """Refuse an update of more images than the attack can tell apart.

    Raises:
        ValueError: If there are more.
    """
    if images > MOST:
        raise ValueError(
            f"the attack learned rebuilds at most {MOST} images of an update, but this one is of "
            f"{images}"
        )


def _wanted(surrogate: SurrogateCapture) -> torch.Tensor:
    """The images whose reconstruction counts, as ``Example`` has them.

    A mixture is the image of nobody: any of its images counts. Of a changed image it is what the
    network saw.
    """
    truth = surrogate.truth
    if truth.mixed:
        return truth.shard.images[truth.sources]
    return (255 * truth.inputs).round().to(torch.uint8).unsqueeze(1)
