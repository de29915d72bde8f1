"""The rows of a run's tables; their fields are the columns that people may rely on."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RoundRow:
    """A line of ``rounds.jsonl``: the global model after a round.

    Attributes:
        round: Counted from 1; 0 is the untrained network.
        accuracy: On the test images, in [0, 1].
        loss: Mean cross-entropy on the test images.
        attack_success_rate: Of the scenario's poisoning, in [0, 1]; of several the one that is
            furthest above its chance. ``None`` without any that wants a label.
        seconds: Wall time of the round, reconstructions included.
        worst_recall: Accuracy on the class that it knows worst, in [0, 1].
        chance_success_rate: How often clean test images are taken for what that poisoning wants,
            in [0, 1]; which images, ``fedlab.poisoning.context.Goal`` tells. ``None`` without any.
    """

    round: int
    accuracy: float
    loss: float
    attack_success_rate: float | None
    seconds: float
    worst_recall: float = math.nan
    chance_success_rate: float | None = None


@dataclass(frozen=True)
class ClientRow:
    """A line of ``clients.csv``: what one client did in one round.

    Attributes:
        defenses: Names joined by ``+``, or ``none``.
        examples: Like what follows, empty where secure aggregation hid it.
        update_norm: L2 norm of the change that it asks for.
        status: ``ok``; ``refused`` by the server; or what it declined for: ``budget``, or
            ``withheld`` after it had looked at its update.
        reason: Why.
        selected: ``yes`` or ``no`` where the server's strategy chooses among the replies that it
            got (Krum, MultiKrum, Bulyan, FLTrust), else empty.
    """

    round: int
    client: int
    role: str
    defenses: str
    examples: int | None
    steps: int | None
    update_norm: float | None
    status: str
    reason: str
    selected: str = ""


@dataclass(frozen=True)
class LeakageRow:
    """A line of ``leakage.csv``: one true image and what was rebuilt of it.

    Attributes:
        preset: Name of the attack; ``imprint`` where the server read out a block of its own.
        image: Place in the client's batch.
        target: ``original``, or ``mixed`` for what a mixing client's network really saw.
        psnr: dB on pixels in [0, 1].
        ssim: Structural similarity, at most 1.
        ms_ssim: The same over several scales, as many as fit the image.
        registered_psnr: PSNR after the best small shift, turn and zoom; any guess gains 1 to 2 dB.
        feature_distance: Mean squared difference of the global network's last features.
        chance_psnr: The highest of the three baselines that follow.
        chance_grey: PSNR of mid-grey.
        chance_class_mean: PSNR of the mean test image of its class.
        chance_nearest: PSNR of the nearest other image of the client.
        iip: 1 if the rebuilt image is nearest to the true one among the client's images of
            its class, else 0.
        pool: How many images that was.
        identification: Share of them that are further from the rebuilt image than the true one.
        label_correct: Whether the label was recovered.
        label_accuracy: Share of the batch's labels that was, in whatever order.
        known_labels: Whether the attacker was given the labels.
        setting: ``diagnostic`` or ``realistic``; ``reasons`` say why.
        verdict: ``leaks`` or ``not shown``.
        objective: What the attack compared payloads by, as tuned.
        tv: Its weight of total variation, as tuned.
        iterations: Done.
        payload_cosine: Between the captured update and the Referee's rehearsal of it.
        signal_cosine: The same with DP noise taken off both sides.
        threat: ``honest-but-curious``, or ``malicious`` where the server tampered with the network
            or the weights that it sent.
        reasons: What made the attack easier than a real one, such as ``labels known, untrained
            network``; empty for ``realistic``.
    """

    round: int
    client: int
    role: str
    defenses: str
    preset: str
    image: int
    target: str
    psnr: float
    ssim: float
    ms_ssim: float
    registered_psnr: float
    feature_distance: float
    chance_psnr: float
    chance_grey: float
    chance_class_mean: float
    chance_nearest: float
    iip: float
    pool: int
    identification: float
    label_correct: bool
    label_accuracy: float
    known_labels: bool
    setting: str
    verdict: str
    objective: str
    tv: float
    iterations: int
    seconds: float
    payload_cosine: float
    signal_cosine: float
    threat: str = "honest-but-curious"
    reasons: str = ""
