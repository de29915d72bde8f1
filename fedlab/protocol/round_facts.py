"""The public facts of a client's round: what the server asked for, and so knows of the reply."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from attacks.knowledge import Knowledge, LocalSGD, Optimiser
from fedlab.defenses import Defense
from fedlab.privacy.release import History
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import ClassFishing, Suppression


@dataclass(frozen=True)
class RoundFacts:
    """What the server asked a client to do, and how it tampered with what it sent.

    Attributes:
        lr: Learning rate of the round; 0 in another Flower app, whose learning rate is unknown.
        momentum: Momentum of local SGD.
        weight_decay: Weight decay of local SGD.
        epochs: Passes over the client's images.
        batch_size: Images in a local batch.
        defenses: Names of the scheduled defenses.
        clipping_norm: Clipping norm of DP-SGD where it is scheduled; under adaptive clipping the
            bound at the start of the round. The attacker takes per-layer clipping for a flat one of
            this norm.
        noise_multiplier: Noise multiplier of DP-SGD where it is scheduled.
        mixture_size: Images in each mixture where DP-InstaHide is scheduled.
        poisson: Whether the single batch of a leaking client is a Poisson sample.
        proximal_mu: Weight of FedProx' proximal term.
        training_mode: Whether the network is in training mode.
        malicious: The server's tampering with what it sent, ``imprint``, ``class-fishing``,
            ``trap-weights`` or ``suppression``; ``None`` if it is honest but curious. The client
            does not know it.
        target: The class for which a malicious server fished.
        singled_out: The client whose update suppression left in a sum, to which the other facts
            then refer; ``None`` otherwise.
        single_batch: Whether that client was asked for the gradient of one batch.
        share: Its share in the sum, in (0, 1], where all clients count equally; ``None`` where they
            count by their numbers of images.
        update_clipping_norm: Clipping norm of clip-noise where it is scheduled.
        update_noise: Standard deviation of the noise on each entry of the update under clip-noise.
        optimiser: Optimiser of the local steps; clients of fedlab run SGD, other apps may not.
        betas: Decay rates of Adam's and AdamW's running means.
        eps: Number that Adam and AdamW add to their denominator.
        norm_target: Squared norm to which weight decay draws the weights; 0 is ordinary decay.
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
    singled_out: int | None = None
    single_batch: bool = False
    share: float | None = None
    update_clipping_norm: float | None = None
    update_noise: float = 0.0
    optimiser: Optimiser = "sgd"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    norm_target: float = 0.0

    @property
    def local_sgd(self) -> LocalSGD:
        """The local training that the server asked for, as attacks take it."""
        return LocalSGD(**{each.name: getattr(self, each.name) for each in fields(LocalSGD)})

    def with_local_sgd(self, local: LocalSGD) -> "RoundFacts":
        """The same facts with other local training."""
        return replace(self, **{each.name: getattr(local, each.name) for each in fields(local)})

    @property
    def threat(self) -> Literal["honest-but-curious", "malicious"]:
        """The threat model; results of the two are never compared."""
        return "honest-but-curious" if self.malicious is None else "malicious"

    @property
    def letter(self) -> Literal["D", "G", "H"]:
        """The threat model in Carletti et al., SoK: Gradient Inversion Attacks (USENIX 2025).

        Every attack may use public images, so none is weaker than D or G. A server that suppresses
        gradients chooses which clients are in the sum in effect.
        """
        if self.malicious is None:
            return "D"
        return "G" if self.singled_out is None else "H"

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
        """What an attacker knows of a reply from these facts and the public facts of the data set.

        Args:
            shape: Channels, height and width of an image.
            num_classes: Number of classes in the data set.
            mean: Mean of the public normalisation for each channel, on pixels in [0, 1].
            std: Standard deviation of the public normalisation for each channel.
            kind: Kind of the payload.
            num_images: Number of images behind the reply.

        Returns:
            Knowledge without labels, of images in the same order in every epoch.
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
    """The facts that an honest server and the client share.

    Args:
        task: The client's task.
        defenses: Defenses scheduled for the client, whether or not it runs them.
        history: Privacy history of the client before the round, as it declared it.
    """
    leaking = task.role if isinstance(task.role, Leaking) else None
    facts: dict[str, Any] = {}
    noise = 0.0
    for defense in reversed(defenses):  # the first of several defenses with the same fact counts
        facts |= (own := defense.facts(history))
        noise = math.hypot(noise, own.get("update_noise", 0.0))  # but for noise, which adds up
    if noise:
        facts["update_noise"] = noise
    return RoundFacts(
        lr=task.lr,
        momentum=task.training.momentum,
        weight_decay=task.training.weight_decay,
        norm_target=task.training.norm_target,
        epochs=task.training.epochs,
        batch_size=leaking.batch_size if leaking else task.training.batch_size,
        defenses=tuple(entry.name for entry in defenses),
        poisson=leaking is not None and leaking.sampling == "poisson",
        proximal_mu=task.proximal_mu,
        training_mode=task.training.mode == "train",
        **facts,
    )


def scheduled_facts(task: ClientTask, scenario: Scenario, history: History = ()) -> RoundFacts:
    """The facts that the server knows of a client's round, tampering with its weights included.

    Args:
        task: The client's task.
        scenario: The scenario, which says what is scheduled.
        history: Privacy history of the client before the round, as it declared it.
    """
    attack = scenario.malicious_attack(round=task.round, client=task.client)
    defenses = scenario.scheduled_defenses(round=task.round, client=task.client)
    return replace(
        round_facts(task, defenses, history),
        # Suppression leaves the target's weights as they are; see suppressed_facts.
        malicious=attack.attack if attack and not isinstance(attack, Suppression) else None,
        target=attack.target if isinstance(attack, ClassFishing) else None,
    )


def summed_facts(parts: Sequence[RoundFacts]) -> RoundFacts:
    """The facts of a sum of replies: its clients act as one client with a larger batch.

    The noise of m clients' DP-SGD adds up to that of one client with a multiplier sqrt(m) times as
    large, where all clip to the same norm; in general it is given in units of the largest norm. The
    noise of clip-noise averages out, as far as the clients hold equally many images.

    Args:
        parts: Facts of the clients' rounds, at least one; those of one client stay as they are.
    """
    private = [
        (each.clipping_norm, each.noise_multiplier)
        for each in parts
        if each.clipping_norm is not None and each.noise_multiplier is not None
    ]
    bound = max((norm for norm, _ in private), default=None)
    norms = [each.update_clipping_norm for each in parts if each.update_clipping_norm is not None]
    return replace(
        parts[0],
        batch_size=sum(each.batch_size for each in parts),
        defenses=tuple(dict.fromkeys(name for each in parts for name in each.defenses)),
        clipping_norm=bound,
        noise_multiplier=math.hypot(*(c * z for c, z in private)) / bound if bound else None,
        # Where one of them does not clip, nothing bounds the mean.
        update_clipping_norm=max(norms) if len(norms) == len(parts) else None,
        update_noise=math.hypot(*(each.update_noise for each in parts)) / len(parts),
    )


def suppressed_facts(
    parts: Mapping[int, RoundFacts], *, target: int, single_batch: bool
) -> RoundFacts:
    """The facts of a sum in which suppression left one client: its own, with the noise of all.

    Noise on the mean of all images is that much larger on the target's share of it.

    Args:
        parts: Facts of the clients' rounds by client, at least one; the target may be missing.
        target: The client that was singled out.
        single_batch: True if it was asked for the gradient of one batch.
    """
    whole = summed_facts(list(parts.values()))
    own, noise = parts.get(target, whole), whole.noise_multiplier
    if own.clipping_norm is None or noise is None or whole.clipping_norm is None:
        noise = own.noise_multiplier
    else:
        noise *= whole.clipping_norm / own.clipping_norm
    return replace(
        own,
        malicious="suppression",
        singled_out=target,
        single_batch=single_batch,
        noise_multiplier=noise,
        update_noise=len(parts) * whole.update_noise,
    )
