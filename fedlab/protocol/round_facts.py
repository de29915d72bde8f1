"""What a client and the server both know of a round, because the server asked for it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from attacks.knowledge import Knowledge, LocalSGD
from fedlab.defenses import Defense
from fedlab.privacy.release import History
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking


@dataclass(frozen=True)
class RoundFacts:
    """What the server told the client to do, and how it tampered, which it alone knows.

    Attributes:
        lr: Learning rate of the round; 0 in somebody else's app, of which the server was not told.
        momentum: Of local SGD.
        weight_decay: Of local SGD.
        epochs: Passes over the client's images.
        batch_size: Images in a local batch.
        defenses: Names of the scheduled defenses.
        clipping_norm: Of DP-SGD where that is scheduled; of adaptive clipping the bound that the
            round started with. The attacker takes per-layer clipping for a flat one of this norm.
        noise_multiplier: Likewise.
        mixture_size: Images in each mixture where DP-InstaHide is scheduled.
        poisson: Whether the single batch of a leaking client is a Poisson one.
        proximal_mu: Of FedProx.
        training_mode: Whether the network was to be in training mode.
        malicious: How the server tampered with what it sent, ``imprint`` or ``class-fishing``;
            ``None`` if it is honest but curious.
        target: The class that it fished for.
        update_clipping_norm: Of clip-noise where that is scheduled.
        update_noise: Likewise, standard deviation of the noise on each entry of the update.
    """

    lr: float
    momentum: float
    weight_decay: float
    epochs: int
    batch_size: int
    defenses: tuple[str, ...] = ()
    clipping_norm: float | None = None
    noise_multiplier: float | None = None
    mixture_size: int | None = None
    poisson: bool = False
    proximal_mu: float = 0.0
    training_mode: bool = True
    malicious: str | None = None
    target: int | None = None
    update_clipping_norm: float | None = None
    update_noise: float = 0.0

    @property
    def local_sgd(self) -> LocalSGD:
        """The local training that it asked for, as attacks take it."""
        return LocalSGD(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            epochs=self.epochs,
            batch_size=self.batch_size,
            proximal_mu=self.proximal_mu,
        )

    def asking(self, local: LocalSGD) -> "RoundFacts":
        """The same with other local training asked for."""
        return replace(self, **{each.name: getattr(local, each.name) for each in fields(local)})

    @property
    def threat(self) -> Literal["honest-but-curious", "malicious"]:
        """The threat model; results of the two are never compared."""
        return "honest-but-curious" if self.malicious is None else "malicious"

    def knowledge(
        self,
        *,
        shape: tuple[int, int, int],
        num_classes: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        kind: Literal["gradient", "weights"],
        num_images: int,
    ) -> Knowledge:
        """What it tells an attacker of a reply, together with the public facts of the data set.

        Args:
            shape: Channels, height and width of an image.
            num_classes: Of the data set.
            mean: Of the public normalisation, per channel.
            std: Likewise.
            kind: Of the payload.
            num_images: Behind the reply.

        Returns:
            Knowledge without labels, of images that were taken in the same order in every epoch.
        """
        return Knowledge(
            image_shape=shape,
            num_classes=num_classes,
            mean=mean,
            std=std,
            num_images=num_images,
            local=self.local_sgd if kind == "weights" else None,
            training_mode=self.training_mode,
            defenses=self.defenses,
            clipping_norm=self.clipping_norm,
            noise_multiplier=self.noise_multiplier,
            mixture_size=self.mixture_size,
            update_clipping_norm=self.update_clipping_norm,
            update_noise=self.update_noise,
        )


def round_facts(task: ClientTask, defenses: Sequence[Defense], history: History = ()) -> RoundFacts:
    """What a client was told by an honest server.

    Args:
        task: Its orders.
        defenses: That are scheduled for it, whether or not it obeys.
        history: Of the client before the round, which it had declared.
    """
    leaking = task.role if isinstance(task.role, Leaking) else None
    facts: dict[str, Any] = {}
    for defense in reversed(defenses):  # the first of several defenses with the same fact counts
        facts |= defense.facts(history)
    return RoundFacts(
        lr=task.lr,
        momentum=task.training.momentum,
        weight_decay=task.training.weight_decay,
        epochs=task.training.epochs,
        batch_size=leaking.batch_size if leaking else task.training.batch_size,
        defenses=tuple(entry.name for entry in defenses),
        poisson=leaking is not None and leaking.sampling == "poisson",
        proximal_mu=task.proximal_mu,
        training_mode=task.training.mode == "train",
        **facts,
    )
