"""Base class and registry of defenses. One subclass in one file is a complete defense."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import PlainValidator, SerializeAsAny

from fedlab.core.plugins import Plugin, Registry, check_subclass
from fedlab.core.settings import Scheduled
from fedlab.defenses.guard import Guard
from fedlab.defenses.pipeline import Pipeline
from fedlab.defenses.workload import Workload
from fedlab.privacy.accounts import ACCOUNTS, Account
from fedlab.privacy.release import History, PrivacyRelease

if TYPE_CHECKING:
    from torch import nn

    from fedlab.defenses.pipeline import ClientContext

NoiseSource = Literal["none", "seeded", "system"]

ELSEWHERE = "give them different rounds or clients"
"""The way out of any conflict between two defenses, as the end of a sentence."""

HOOKS = {
    *("facts", "planned_release", "expected_release", "reworked", "settled"),
    *("conflict", "conflict_before", "conflict_after", "norm_problem", "network_problem"),
}
"""Methods of a foreign defense that other rooms call outside a client's round."""


def _named(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method of a foreign defense so that its errors name the defense."""

    @wraps(method)
    def named(self: Defense, *arguments: Any, **options: Any) -> Any:
        with Guard(self.name).naming_errors():
            return method(self, *arguments, **options)

    return named


class Defense(Plugin, Scheduled, ABC):
    """A change of a client's batches, gradients or update that is meant to protect its images.

    A subclass declares its settings as fields and implements ``wrap``. The other attributes and
    methods describe the defense to the rest of the system; their defaults suit a defense that
    claims no epsilon. Scenarios, the command line and Python name it ``package.module:Name``.

    A defense that claims an epsilon sets ``account`` and charges each round by
    ``pipeline.charged(self.release(context, ...))``. For Gaussian noise the account states the
    sensitivity: with ``sensitivity=2.0`` a noise multiplier z is accounted as z / 2. It is the
    largest L2 distance of two neighbouring releases in units of the clipping norm, so it is 1 if an
    example is added or removed, and 2 if one clipped update is replaced by another.

    Example:
        >>> from fedlab.defenses import Defense, Pipeline, ClientContext
        >>> class Halve(Defense):
        ...     "Sends half of the update."
        ...     factor: float = 0.5
        ...     keeps_guarantees = True
        ...
        ...     def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        ...         return pipeline.releasing_each(lambda tensor: self.factor * tensor)
    """

    registry: ClassVar[Registry[type[Defense]]]

    name: str = ""
    """Name of the defense: built-in, an entry point, or ``package.module:Name``."""

    colour: ClassVar[str | None] = None
    """Hex colour in every figure; ``None`` for a colour computed from the name."""
    strengths: ClassVar[tuple[str, ...]] = ()
    """Settings that reports state even at their default value, such as ``noise_multiplier``."""
    account: ClassVar[Account | None] = None
    """Unit, adjacency, composition and sensitivity of the epsilon that the defense claims; ``None``
    if it claims none."""
    keeps_guarantees: ClassVar[bool] = False
    """True if the epsilon of other defenses still holds when this one runs in the same round. That
    is so if it changes each image by itself, or uses the noisy update only. If it is false, the
    round counts as unprotected; if the defense itself claims an epsilon, it is refused beside
    others that do."""
    mixes_images: ClassVar[bool] = False
    """True if one training example is made from several images."""
    couples_images: ClassVar[bool] = False
    """True if the change of one image depends on other images of the batch."""
    selects_by_images: ClassVar[bool] = False
    """True if it selects what to send by looking at the images, which no noise covers."""
    draws_each_round: ClassVar[bool] = False
    """True if it augments images at random, with new draws in every batch."""
    changes_update: ClassVar[bool] = False
    """True if it changes the update, so that it must come before any inspection of the update."""
    changes_gradient: ClassVar[bool] = False
    """True if it changes the gradient of every local step after it is computed."""
    computes_gradient: ClassVar[bool] = False
    """True if it computes the gradient of every local step itself, so that changes of it come
    after."""
    leaves_training: ClassVar[bool] = False
    """True if it leaves batches and gradients as they are, and needs no network but the update, so
    that the client may train in lockstep with others."""
    inspects_update: ClassVar[bool] = False
    """True if it inspects the update before it is sent, and may withhold it."""
    publishes_hashes: ClassVar[bool] = False
    """True if clients that run it publish the hash of what the server sent them."""
    sums_updates: ClassVar[bool] = False
    """True if the server sees only the sum of the updates of all clients that run it in a round."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__module__.startswith("fedlab."):
            for hook in HOOKS & vars(cls).keys():
                setattr(cls, hook, _named(vars(cls)[hook]))

    @abstractmethod
    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Add the defense to a client's pipeline for one round.

        Args:
            pipeline: Pipeline with the defenses that the scenario lists before this one.
            context: The client's network, images, random generators and public facts.

        Returns:
            The pipeline with this defense in it. A defense that claims an epsilon also adds its
            cost by ``pipeline.charged(self.release(context, ...))``.

        Raises:
            ValueError: If the defense cannot work on this client's images; the message states the
                reason and the fix.
        """

    @property
    def position(self) -> int:
        """Place where a toggle inserts it: 0 first, 1 usual, 2 after all changes, 3 last."""
        return 1

    @property
    def fewest_summed(self) -> int:
        """Smallest number of clients under these settings in the sum that the server may see.

        Above 1 the defense needs a sum, in which all clients then count equally.
        """
        return 1

    @property
    def noise_source(self) -> NoiseSource:
        """Source of the noise that is drawn anew in each participation."""
        return "none"

    @property
    def states_noise(self) -> bool:
        """True if all it does is clip and add Gaussian noise of the deviation in its ``facts``."""
        return False

    @property
    def privacy_budget(self) -> float | None:
        """Largest epsilon of a client's rounds under the defense; ``None`` for no limit."""
        return None

    @property
    def target(self) -> float | None:
        """Epsilon for which the noise is solved before the run; ``None`` if the noise is set."""
        return None

    def settled(self, noise_multiplier: float | None) -> Self:
        """Return the defense with its noise set and without its ``target``.

        Args:
            noise_multiplier: Noise multiplier that reaches the target; ``None`` to keep the
            setting.
        """
        raise NotImplementedError(f"{self.name} has a target, so its class must define settled()")

    @property
    def mixture_size(self) -> int | None:
        """Number of images in each training example that is mixed; ``None`` if it is not fixed."""
        return None

    def facts(self, history: History) -> dict[str, Any]:
        """Return public facts of a round under the defense, as fields of ``RoundFacts``.

        Args:
            history: Privacy history of the client before the round.
        """
        return {}

    def planned_release(
        self,
        *,
        round: int,
        participation: int,
        images: int,
        batch_size: int,
        steps: int,
        poisson: bool,
        history: History = (),
    ) -> PrivacyRelease | None:
        """Return the privacy cost of a round before it runs; ``None`` if it is not known then.

        Args:
            round: Round number, counted from 1.
            participation: Number of earlier rounds of the client.
            images: Number of images of the client.
            batch_size: Number of images in a batch, or the expected number under Poisson sampling.
            steps: Number of batches.
            poisson: True if batches are Poisson samples; otherwise their size is fixed.
            history: Privacy history of the client before the round.
        """
        return None

    def reworked(self, work: Workload) -> Workload:
        """Return the local steps under the defense, which may train on other records than images.

        Args:
            work: Local steps under the defenses before this one.
        """
        return work

    def expected_release(
        self,
        work: Workload,
        *,
        round: int,
        participation: int,
        images: int,
        values: int,
        history: History = (),
    ) -> PrivacyRelease | None:
        """Return the cost of a round by which the server checks what a client says it spent.

        A client of a foreign defense may state a higher cost. If it states a lower one, its round
        counts as unprotected and its reply is refused.

        Args:
            work: Local steps under the defenses before this one.
            round: Round number, counted from 1.
            participation: Number of earlier rounds of the client.
            images: Number of images of the client.
            values: Number of values in an image: channels times height times width.
            history: Privacy history of the client before the round.

        Returns:
            The cost; ``None`` if it is not known, which is the default of a defense without
            ``planned_release``.
        """
        return self.planned_release(
            round=round,
            participation=participation,
            images=images,
            batch_size=work.batch_size,
            steps=work.steps,
            poisson=work.poisson,
            history=history,
        )

    def conflict(self, other: Defense) -> str | None:
        """Return why one client must not run both in a round, with the fix; ``None`` if it may."""
        return None

    def conflict_before(self, later: Defense) -> str | None:
        """Return why it must not be listed before another, with the fix; ``None`` if it may."""
        return None

    def conflict_after(self, earlier: Defense) -> str | None:
        """Return why it must not be listed after another, with the fix; ``None`` if it may."""
        return None

    def norm_problem(self, norm: str | None) -> str | None:
        """Return why the defense cannot train networks with a normalisation layer, with the fix.

        Args:
            norm: ``group``, ``batch``, ``none``, or ``None`` for the network's own choice.

        Returns:
            The reason as a sentence; ``None`` if it can.
        """
        return None

    def network_problem(self, model: nn.Module, shape: tuple[int, int, int]) -> str | None:
        """Return why the defense cannot work with a network, with the fix.

        Args:
            model: The network with its initial weights.
            shape: Channels, height and width of an image.

        Returns:
            The reason as a sentence; ``None`` if it can.
        """
        return None

    def release(self, context: ClientContext, **cost: Any) -> PrivacyRelease:
        """Return the entry of the privacy history for one participation under the defense.

        Args:
            context: The client's round.
            **cost: ``epsilon`` of the round, for an account of composition ``sum``; or
                ``noise_multiplier``, ``sample_rate`` and ``steps`` of Gaussian noise, for an
                account of composition ``gaussian``. The noise multiplier is the standard deviation
                of the noise over the clipping norm; the entry also carries the account's
                sensitivity, by which the accountant divides it.

        Raises:
            TypeError: If the class sets no ``account``, or the cost is of the other composition.
        """
        return self.entry(context.round, context.participation, **cost)

    def entry(self, round: int, participation: int, **cost: Any) -> PrivacyRelease:
        """Return an entry of the privacy history, as ``release`` does, for a round by its numbers.

        Args:
            round: Round number, counted from 1.
            participation: Number of earlier participations of the client.
            **cost: Cost of the round, as for ``release``.

        Raises:
            TypeError: If the class sets no ``account``, or the cost is of the other composition.
        """
        account = self.account
        if account is None:
            raise TypeError(
                f"{self.name} claims an epsilon, so its class must set account = "
                'Account(unit="example" or "client", adjacency=...)'
            )
        if self.name in ACCOUNTS:
            return PrivacyRelease(round, participation, self.name, **cost)
        noisy = cost.get("noise_multiplier") is not None
        if noisy is not (account.composition == "gaussian"):
            raise TypeError(
                f"the account of {self.name} adds up epsilons, but its release states Gaussian "
                'noise: set composition="gaussian" in the account'
                if noisy
                else f"the account of {self.name} composes Gaussian noise, so its release must "
                "state noise_multiplier, sample_rate and steps"
            )
        stated = {
            "unit": account.unit,
            "adjacency": account.adjacency,
            "sensitivity": account.sensitivity if noisy else None,
            "needs_public_labels": account.needs_public_labels or None,
        }
        return PrivacyRelease(round, participation, self.name, **{**cost, **stated})

    def apply(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Call ``wrap``; errors of a defense from outside this package get its name.

        Args:
            pipeline: Pipeline with the defenses before this one.
            context: The client's round.

        Returns:
            The pipeline with this defense in it. Whatever a foreign defense put into it is checked
            when it runs.

        Raises:
            PluginFailed: If a foreign defense raises, returns something else than a pipeline, or
                charges an epsilon in another name or without an ``account``, or states an
                ``account`` and charges nothing.
        """
        if self.registry.is_builtin(self.name):
            return self.wrap(pipeline, context)
        return Guard(self.name, self.account).apply(self.wrap, pipeline, context)


DEFENSES: Registry[type[Defense]] = Registry(
    "defense",
    group="fedlab.defenses",
    builtin={
        "dp-sgd": "fedlab.defenses.dp_sgd:DPSGD",
        "dp-instahide": "fedlab.defenses.dp_instahide:DPInstaHide",
        "flip-crop": "fedlab.defenses.flip_crop:FlipCrop",
        "mixup": "fedlab.defenses.mixup:Mixup",
        "cutmix": "fedlab.defenses.cutmix:CutMix",
        "cutout": "fedlab.defenses.cutout:Cutout",
        "maxup": "fedlab.defenses.maxup:MaxUp",
        "ats": "fedlab.defenses.ats:ATS",
        "adversarial-poisoning": "fedlab.defenses.adversarial:AdversarialPoisoning",
        "soteria": "fedlab.defenses.soteria:Soteria",
        "outpost": "fedlab.defenses.outpost:Outpost",
        "censor": "fedlab.defenses.censor:Censor",
        "dcs-2": "fedlab.defenses.concealed_samples:ConcealedSamples",
        "lr-perturbation": "fedlab.defenses.learning_rate:LearningRatePerturbation",
        "clip-noise": "fedlab.defenses.clip_noise:ClipNoise",
        "pruning": "fedlab.defenses.pruning:Pruning",
        "dual-pruning": "fedlab.defenses.dual_pruning:DualPruning",
        "grad-defense": "fedlab.defenses.grad_defense:GradDefense",
        "quantisation": "fedlab.defenses.quantisation:Quantisation",
        "leakage-gate": "fedlab.defenses.leakage_gate:LeakageGate",
        "hash-check": "fedlab.defenses.hash_check:HashCheck",
        "weight-check": "fedlab.defenses.weight_check:WeightCheck",
        "secure-aggregation": "fedlab.defenses.secure_aggregation:SecureAggregation",
    },
    check=check_subclass(Defense),
)
"""All defenses by name; a scenario takes any of them."""

Defense.registry = DEFENSES

AnyDefense = Annotated[SerializeAsAny[Defense], PlainValidator(Defense.parse_table)]
"""Type of a field that takes a defense: an instance, a table with its name, or the name."""
