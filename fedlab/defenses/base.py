"""The base class of every defense: one subclass in one file is a whole defense."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import PlainValidator, SerializeAsAny

from fedlab.core.plugins import Plugin, PluginFailed, Registry, check_subclass, describe
from fedlab.core.settings import Scheduled
from fedlab.defenses.pipeline import Pipeline, Withheld
from fedlab.privacy.accounts import ACCOUNTS, Account
from fedlab.privacy.release import History, PrivacyRelease

if TYPE_CHECKING:
    from torch import nn

    from fedlab.defenses.pipeline import ClientContext

NoiseSource = Literal["none", "seeded", "system"]

ELSEWHERE = "give them different rounds or clients"
"""How every sentence about two defenses that conflict may end."""


class Defense(Plugin, Scheduled, ABC):
    """Something a client does to its batches, its gradients or its update.

    A subclass declares its settings as fields and implements ``wrap``. The other attributes and
    methods are what the rest of the system asks of a defense; their defaults fit a defense that
    claims no privacy guarantee. In a scenario, on the command line and in Python the defense goes
    by ``package.module:Name``.

    Example:
        >>> from fedlab.defenses import Defense, Pipeline, ClientContext
        >>> class Halve(Defense):
        ...     "Sends half of the update."
        ...     factor: float = 0.5
        ...     keeps_guarantees = True
        ...
        ...     def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        ...         return pipeline.releasing(
        ...             lambda update: {name: self.factor * t for name, t in update.items()}
        ...         )
    """

    registry: ClassVar[Registry[type[Defense]]]

    name: str = ""
    """Name of the defense: a built-in one, an entry point, or ``package.module:Name``."""

    colour: ClassVar[str | None] = None
    """Hex colour in every figure; unless given, one that follows from the name."""
    account: ClassVar[Account | None] = None
    """Unit, adjacency and composition of the epsilon that the defense claims; ``None`` if none."""
    keeps_guarantees: ClassVar[bool] = False
    """Whether the epsilon of other defenses still holds beside this one. Set it for what treats
    each image by itself, or works on the noisy update alone; otherwise the round counts as open."""
    mixes_images: ClassVar[bool] = False
    """Whether one training example is made from several images."""
    couples_images: ClassVar[bool] = False
    """Whether an image is changed by what other images of the batch are."""
    selects_by_images: ClassVar[bool] = False
    """Whether it chooses what to send by looking at the images, which no noise covers."""
    draws_each_round: ClassVar[bool] = False
    """Whether it augments images at random, anew in every batch."""
    changes_update: ClassVar[bool] = False
    """Whether it changes what is sent, so that it has to come before any look at the update."""
    inspects_update: ClassVar[bool] = False
    """Whether it judges the update that is about to be sent."""
    sums_updates: ClassVar[bool] = False
    """Whether the server sees only the sum over all clients of the round that run it."""

    @abstractmethod
    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the defense into a client's pipeline for one round.

        Args:
            pipeline: Training and sending as the defenses before this one left them.
            context: The client's network, images, random generators and public facts.

        Returns:
            The pipeline with this defense in it. A defense that claims an epsilon also adds its
            cost by ``pipeline.charged(self.release(context, ...))``.

        Raises:
            ValueError: If the defense cannot work on this client's images; say why and what to do.
        """

    @property
    def position(self) -> int:
        """Where a toggle inserts the defense: 0 first, 1 usual, 2 after all changes, 3 last."""
        return 1

    @property
    def noise_source(self) -> NoiseSource:
        """Where noise that is drawn anew in each participation comes from."""
        return "none"

    @property
    def privacy_budget(self) -> float | None:
        """Largest epsilon of a client's rounds under the defense; ``None`` for no limit."""
        return None

    @property
    def target(self) -> float | None:
        """Epsilon for which the noise is still to be solved before the run; ``None`` if settled."""
        return None

    def settled(self, noise_multiplier: float | None) -> Self:
        """The defense without its ``target``.

        Args:
            noise_multiplier: Noise multiplier that reaches the target; ``None`` keeps the noise
                that is set.
        """
        raise NotImplementedError(f"{self.name} has a target, so its class must define settled()")

    @property
    def mixture_size(self) -> int | None:
        """Number of images in each training example that is mixed; ``None`` if it is not fixed."""
        return None

    def facts(self, history: History) -> dict[str, Any]:
        """Public facts of a round under the defense, as fields of ``RoundFacts``.

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
        """The privacy cost of a round before it runs, where public facts determine it.

        Args:
            round: Round number, counted from 1.
            participation: Number of earlier rounds of the client.
            images: Number of images of the client.
            batch_size: Images in a batch, or their expected number under Poisson sampling.
            steps: Number of batches.
            poisson: Whether batches are Poisson samples; otherwise their size is fixed.
            history: Privacy history of the client before the round.
        """
        return None

    def conflict(self, other: Defense) -> str | None:
        """Reason why one client must not run both in a round, in any order, with the way out."""
        return None

    def conflict_before(self, later: Defense) -> str | None:
        """Reason why the defense must not be listed before another, with the way out."""
        return None

    def conflict_after(self, earlier: Defense) -> str | None:
        """Reason why the defense must not be listed after another, with the way out."""
        return None

    def norm_problem(self, norm: str | None) -> str | None:
        """Reason why the defense cannot train networks with this normalisation layer.

        Args:
            norm: ``group``, ``batch``, ``none``, or ``None`` for the network's own choice.
        """
        return None

    def network_problem(self, model: nn.Module, shape: tuple[int, int, int]) -> str | None:
        """Reason why the defense cannot work with a network.

        Args:
            model: The network, at its initial weights.
            shape: Channels, height and width of an image.
        """
        return None

    def release(self, context: ClientContext, **cost: Any) -> PrivacyRelease:
        """The entry of the privacy history for one participation under the defense.

        Args:
            context: The client's round.
            **cost: ``epsilon`` of the round, which adds up over rounds; or ``noise_multiplier``,
                ``sample_rate`` and ``steps`` of Gaussian noise, which the accountant composes.

        Raises:
            TypeError: If the class states no ``account``.
        """
        if self.account is None:
            raise TypeError(
                f"{self.name} claims an epsilon, so its class must set account = "
                'Account(unit="example" or "client", adjacency=...)'
            )
        own = self.name not in ACCOUNTS
        stated = {"unit": self.account.unit, "adjacency": self.account.adjacency} if own else {}
        return PrivacyRelease(context.round, context.participation, self.name, **{**stated, **cost})

    def apply(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Call ``wrap``, and name the defense in whatever a stranger's code raises then or later.

        Raises:
            PluginFailed: If a defense from outside this package raises, or returns no pipeline.
        """
        if self.registry.is_builtin(self.name):
            return self.wrap(pipeline, context)
        wrapped = self._guarded(self.wrap)(pipeline, context)
        if not isinstance(wrapped, Pipeline):
            kind = type(wrapped).__name__
            raise PluginFailed(f'defense "{self.name}": wrap returned {kind}, not a Pipeline')
        changes: dict[str, Any] = {}
        for field in fields(Pipeline):
            before, after = getattr(pipeline, field.name), getattr(wrapped, field.name)
            if isinstance(after, tuple):
                changes[field.name] = tuple(
                    self._guarded(each) if callable(each) and each not in before else each
                    for each in after
                )
            elif callable(after) and after is not before:
                changes[field.name] = self._guarded(after)
        return replace(wrapped, **changes)

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def guarded(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except (Withheld, PluginFailed):
                raise
            except Exception as error:
                raise PluginFailed(f'defense "{self.name}" failed: {describe(error)}') from error

        return guarded


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
        "adversarial-poisoning": "fedlab.defenses.adversarial:AdversarialPoisoning",
        "soteria": "fedlab.defenses.soteria:Soteria",
        "clip-noise": "fedlab.defenses.clip_noise:ClipNoise",
        "pruning": "fedlab.defenses.pruning:Pruning",
        "quantisation": "fedlab.defenses.quantisation:Quantisation",
        "leakage-gate": "fedlab.defenses.leakage_gate:LeakageGate",
        "secure-aggregation": "fedlab.defenses.secure_aggregation:SecureAggregation",
    },
    check=check_subclass(Defense),
)
"""Every defense that a scenario can name."""

Defense.registry = DEFENSES

AnyDefense = Annotated[SerializeAsAny[Defense], PlainValidator(Defense.parse_table)]
"""The type of a field that takes any defense: an instance, a table with its name, or the name."""
