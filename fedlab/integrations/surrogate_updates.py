"""Surrogate updates for an external update: settings that are chosen on them, and power."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from attacks.knowledge import Knowledge, PublicImages
from attacks.payload import Payload
from attacks.reconstruction import AttackSettings, invert
from attacks.reconstruction.defended import noise_deviation
from attacks.reconstruction.inverter_training import Example, train_inverter
from attacks.reconstruction.modes import mode
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.simulated_clients import surrogates
from attacks.reconstruction.tuning import SurrogateVictim
from attacks.reconstruction.update_reader import UpdateReader
from fedlab.core.seeds import derive, generator, seeded
from fedlab.data.photographs import photograph_crops
from fedlab.evaluation.learned_inverter import EXAMPLES, HELD_OUT, METHOD, REPEATS, refuse_many
from fedlab.evaluation.self_tuning import POWER_IMAGES, VICTIMS
from fedlab.evaluation.tuning_budget import quality_of, tuned
from fedlab.integrations.visible_pruning import pruned_alike, visibly_pruned
from fedlab.metrics.public_pool import PublicPool
from fedlab.metrics.scores import matched, score
from fedlab.metrics.verdict import INCONCLUSIVE, LEAKS
from fedlab.scenario.tables import Reconstruct

GENERIC = 64
"""Number of crops of photographs from which surrogates are drawn where no public image is given."""

LEAST_PUBLIC = 30
"""Least number of public images on which an inverter can be trained."""

SIMULATED = frozenset({"dp-sgd", "pruning"})
"""Defenses that surrogate updates of an external one can run, by name."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SurrogateUpdate:
    """An update that the stated client would send for other images.

    Attributes:
        payload: The simulated payload.
        images: float32 ``[n, channels, height, width]``, the images behind it, pixels in [0, 1].
        labels: int64 ``[n]`` or soft ``[n, classes]``, their labels.
    """

    payload: Payload
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ExternalUpdate:
    """An update of another federation, and what is known about it.

    Attributes:
        model: The network, on the device to compute on.
        state: Parameters and buffers that the server sent, by name.
        payload: The captured payload.
        knowledge: Assumptions about the client.
        seed: Seed of surrogates and trials.
    """

    model: nn.Module
    state: Mapping[str, Tensor]
    payload: Payload
    knowledge: Knowledge
    seed: int

    def tuned(self, attack: AttackSettings, entry: Reconstruct) -> AttackSettings:
        """Settings that an attack chooses on surrogate updates.

        Args:
            attack: Settings of the preset with those that the user replaced.
            entry: Budget of the tuning, and whether adapted settings are tried.

        Raises:
            ValueError: If the preset is ``learned`` and its network cannot be trained.
        """
        if attack.method == METHOD:
            return self._learned(attack, entry)
        victims = [
            SurrogateVictim(
                self.state,
                each.payload,
                replace(self.knowledge, labels=each.labels),
                quality_of(each.images),
            )
            for each in self._surrogates("surrogate updates", VICTIMS)
        ]
        seed = derive(self.seed, "tuning")
        found = tuned(self.model, victims, self.payload, attack, entry, seed=seed)
        log.info(
            "the attack chose %s on simulated updates (%d iterations, %.1f s)",
            found.choice,
            found.iterations,
            found.seconds,
        )
        return found.attack

    def power(self, attack: AttackSettings, chosen: AttackSettings, entry: Reconstruct) -> float:
        """Share of surrogate images that leak to the same attack when no defense is on.

        Args:
            attack: Settings of the preset with those that the user replaced.
            chosen: Settings of the attack on the captured update.
            entry: Budgets of the attack, and whether power is measured.

        Returns:
            A share in [0, 1]; NaN without public images, or if the entry does not ask for it.
        """
        public = self.knowledge.public
        if not entry.power or public is None:
            return math.nan
        plain = self._undefended() if self._defended else self
        if self._defended and attack.tunes:
            chosen = plain.tuned(attack, entry)
        elif self._defended:
            chosen = attack
        labels = public.labels
        pool = PublicPool(
            public.images.cpu(),
            torch.zeros(len(public.images), dtype=torch.int64) if labels is None else labels.cpu(),
            self.seed,
        )
        count = -(-POWER_IMAGES // self.knowledge.num_images)
        judged = plain._with_public(0) if attack.method == METHOD else plain
        grades = [
            grade
            for each in judged._surrogates("power", count)
            for grade in plain._grades(each, chosen, entry, pool)
        ]
        return sum(grade == LEAKS for grade in grades) / len(grades)

    def _learned(self, attack: AttackSettings, entry: Reconstruct) -> AttackSettings:
        """The attack by a network that is trained on surrogate updates."""
        known, public = self.knowledge, self.knowledge.public
        refuse_many(known.num_images)
        if public is None or len(public.images) < LEAST_PUBLIC:
            raise ValueError(
                f"the attack learned needs at least {LEAST_PUBLIC} public images to train on"
            )
        if strange := sorted(set(known.defenses) - SIMULATED):
            raise ValueError(
                f"the attack learned has to simulate {strange[0]}, which only a scenario can: "
                "choose another preset"
            )
        count = min(entry.tuning_iterations or EXAMPLES, REPEATS * len(public.images))
        reader = UpdateReader.of(
            self.payload.tensors,
            generator=generator(self.seed, "bins of the learned inverter"),
            classes=0 if known.labels is None else known.num_classes,
        )
        inverter = train_inverter(
            self._with_public(2)._examples(reader, "examples", count),
            self._with_public(1)._examples(reader, "held out", -(-count // HELD_OUT)),
            reader=reader,
            num_images=known.num_images,
            epochs=attack.iterations,
            generator=generator(self.seed, "learned inverter"),
        )
        log.info("the attack %s", inverter.key)
        return replace(attack, method=inverter, tunes=False)

    def _with_public(self, part: int) -> "ExternalUpdate":
        """The same with a part of the public images: 0 for power, 1 to hold out, 2 to train on."""
        public, tenth = self._public, max(1, len(self._public.images) // HELD_OUT)
        order = torch.randperm(
            len(public.images), generator=generator(self.seed, "parts of public images")
        )
        chosen = torch.split(order, [tenth, tenth, len(order) - 2 * tenth])[part]
        labels = None if public.labels is None else public.labels[chosen]
        some = PublicImages(public.images[chosen], labels)
        return replace(self, knowledge=replace(self.knowledge, public=some))

    def _examples(self, reader: UpdateReader, purpose: str, count: int) -> list[Example]:
        """Surrogate updates as a network reads them, with the images behind them."""
        return [
            Example(
                reader(
                    Problem.of(self.model, self.state, each.payload, self.knowledge).target,
                    each.labels,
                ),
                (255 * each.images).round().to(torch.uint8).unsqueeze(1),
            )
            for each in self._surrogates(purpose, count)
        ]

    def _grades(
        self, update: SurrogateUpdate, attack: AttackSettings, entry: Reconstruct, pool: PublicPool
    ) -> list[str]:
        """Verdicts on the images of a surrogate update after an attack on it."""
        known = self.knowledge
        if known.labels is not None:
            known = replace(known, labels=update.labels)
        try:
            found = invert(
                self.model,
                self.state,
                update.payload,
                known,
                attack,
                generator=generator(self.seed, "power attack"),
                seconds=entry.seconds,
                workers=entry.workers,
            )
        except ValueError:  # an attack that cannot work has rebuilt nothing
            return [INCONCLUSIVE] * len(update.images)
        true = update.images.cpu()
        labels = None if self._public.labels is None else update.labels.cpu()
        rebuilt, recovered = matched(true, found)
        scores = score(true, rebuilt, pool=pool, labels=labels, recovered=recovered)
        return [each.verdict for each in scores]

    def _undefended(self) -> "ExternalUpdate":
        """The same client without defenses, with a simulated payload in place of the captured."""
        open_ = replace(
            self.knowledge,
            defenses=(),
            clipping_norm=None,
            noise_multiplier=None,
            mixture_size=None,
            update_clipping_norm=None,
            update_noise=0.0,
        )
        plain = replace(self, knowledge=open_)
        return replace(plain, payload=plain._draw(generator(self.seed, "undefended")).payload)

    @cached_property
    def _pruned(self) -> bool:
        """True if the captured update was visibly pruned."""
        simulated = self._draw(generator(self.seed, "pruning")).payload
        return visibly_pruned(self._change(self.payload), self._change(simulated))

    @property
    def _defended(self) -> bool:
        """True if a defense is stated, or visible in the captured update."""
        known = self.knowledge
        return bool(known.defenses or known.clipping_norm or known.update_noise) or self._pruned

    def _surrogates(self, purpose: str, count: int) -> Iterator[SurrogateUpdate]:
        """Simulate the client, with pruning like that of the captured update.

        Args:
            purpose: Name of the random stream from which images and noise are drawn.
            count: Number of updates.
        """
        draws = generator(self.seed, purpose)
        captured = self._change(self.payload) if self._pruned else None
        for _ in range(count):
            each = self._draw(draws)
            if captured is not None:
                change = pruned_alike(self._change(each.payload), captured)
                each = replace(each, payload=self._sent(change))
            yield each

    def _draw(self, draws: torch.Generator) -> SurrogateUpdate:
        """Simulate the client once, on public images, or crops of photographs if none are given.

        Public images have their own labels if they are known. Defenses are simulated as far as they
        are stated: clipping per example and Gaussian noise.
        """
        problem, public = self._problem, self._public
        # Dropout draws from the global generator, whose state must stay as it is for the attack.
        dropout = seeded(derive(self.seed, "dropout"), problem.device)
        with mode(self.model, training=self.knowledge.training_mode), dropout:
            images, labels = surrogates(problem, draws, own_labels=public.labels is not None)
            change = problem.simulate(images, labels, create_graph=False)
        noise = noise_deviation(self.payload, self.knowledge)
        noisy = {
            name: tensor.detach()
            + noise * torch.randn(tensor.shape, generator=draws).to(tensor.device)
            for name, tensor in change.items()
        }
        return SurrogateUpdate(self._sent(noisy), problem.pixels(images), labels)

    @cached_property
    def _public(self) -> PublicImages:
        given = self.knowledge.public
        draws = generator(self.seed, "photographs")
        return given or PublicImages(photograph_crops(self.knowledge.image_shape, GENERIC, draws))

    @cached_property
    def _problem(self) -> Problem:
        known = replace(self.knowledge, public=self._public)
        problem = Problem.of(self.model, self.state, self.payload, known)
        return replace(problem, limits=None)  # of Adam the step itself, and not its gradient

    def _change(self, payload: Payload) -> dict[str, Tensor]:
        """Change of each parameter by name: the gradient, or the weights before minus those after.

        With weights, changes below the rounding error are zero.
        """
        if payload.kind == "gradient":
            return dict(payload.tensors)
        before = self._problem.parameters
        return {
            name: before[name] - tensor.to(before[name]) for name, tensor in payload.tensors.items()
        }

    def _sent(self, change: Mapping[str, Tensor]) -> Payload:
        """The payload with a change, which is the inverse of ``_change``."""
        before = self._problem.parameters
        gradient = self.payload.kind == "gradient"
        tensors = {n: t if gradient else before[n] - t for n, t in change.items()}
        return replace(self.payload, tensors=tensors)
