"""The rows of a run's tables; their fields are the columns of the files."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fedlab.core.plain_text import csv_cell


@dataclass(frozen=True)
class RoundRow:
    """A line of ``rounds.jsonl``: the global model after a round.

    Attributes:
        round: Round number, counted from 1; 0 is the untrained network.
        accuracy: Accuracy on the test images, in [0, 1].
        loss: Mean cross-entropy on the test images.
        attack_success_rate: Success rate of the scenario's poisoning, in [0, 1]; of several
            poisonings, that of the one furthest above its chance. ``None`` if no poisoning aims at
            a label.
        seconds: Wall time of the round in seconds, reconstructions included.
        worst_recall: Accuracy on the class with the lowest accuracy, in [0, 1].
        chance_success_rate: Share of clean test images that the model takes for the label that the
            poisoning aims at, in [0, 1]; ``fedlab.poisoning.context.Goal`` says which images.
            ``None`` if no poisoning aims at a label.
        cpu_seconds: CPU time of the round in seconds, of all processes that ``engine.workers``
            starts; NaN on Ray and in a deployment, whose clients run elsewhere.
        chance_accuracy: Accuracy of always predicting the most frequent class of the test images,
            in [0, 1].
        test_images: Number of test images; ``None`` in runs of earlier versions.
    """

    round: int
    accuracy: float
    loss: float
    attack_success_rate: float | None
    seconds: float
    worst_recall: float = math.nan
    chance_success_rate: float | None = None
    cpu_seconds: float = math.nan
    chance_accuracy: float = math.nan
    test_images: int | None = None


@dataclass(frozen=True)
class ClientRow:
    """A line of ``clients.csv``: what one client did in one round.

    Attributes:
        round: Round number, counted from 1.
        client: Partition id.
        role: ``honest``, ``leaking`` or ``poisoning``.
        defenses: Names of the defenses joined by ``+``, or ``none``.
        examples: Number of examples that the client reported. This and the next two columns are
            empty where secure aggregation hides them.
        steps: Number of local steps.
        update_norm: L2 norm of the change of the weights that the client asks for.
        status: ``ok``; ``refused`` if the server did not use the reply; or why the client
            abstained: ``budget`` for its privacy budget, ``withheld`` after a look at its update.
        reason: Reason of a status other than ``ok``.
        selected: ``yes`` or ``no`` if the aggregation rule chooses among the replies (Krum,
            MultiKrum, Bulyan, FLTrust), otherwise empty.
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


@dataclass(frozen=True, kw_only=True)
class LeakageRow:
    """A line of ``leakage.csv``: the scores of the reconstruction of one true image.

    Scores are NaN by default, as where nothing was reconstructed.

    Attributes:
        round: Round number, counted from 1.
        client: Partition id.
        role: ``honest``, ``leaking`` or ``poisoning``.
        defenses: Names of the defenses joined by ``+``, or ``none``.
        preset: Name of the attack; ``imprint`` if the server read out a block that it had added.
        image: Place of the image in the client's batch, counted from 0.
        target: Image that the reconstruction is compared with: ``original``, or ``mixed`` for the
            mixture that the network of a mixing client saw; ``unknown`` in a deployment, where the
            image is not at the server.
        psnr: PSNR in dB, on pixels in [0, 1].
        ssim: Structural similarity, at most 1.
        ms_ssim: Structural similarity over as many scales as fit the image, at most 1.
        registered_psnr: PSNR in dB after the best small shift, rotation and zoom; these add 1 to
            2 dB to any guess.
        feature_distance: Squared distance of learned features of length 1, in [0, 4].
        chance_psnr: PSNR in dB of chance, aligned like ``aligned_psnr``: the highest of the next
            three columns.
        chance_grey: PSNR in dB of the best image of one colour.
        chance_class_mean: PSNR in dB of the mean public image of the same class.
        chance_nearest: PSNR in dB of the nearest of the public images in the pool.
        iip: 1 if the true image is the nearest of the pool to the reconstruction, otherwise 0.
        pool: Number of images in the pool: the true image and at most 99 public ones, of its class
            as far as there are.
        identification: Share of the public images of the pool that are further from the
            reconstruction than the true image, in [0, 1].
        label_correct: True if the label was recovered.
        label_accuracy: Share of the batch's labels that were recovered in any order, in [0, 1].
        known_labels: True if the attacker was given the labels.
        setting: ``diagnostic`` or ``realistic``; see ``reasons``.
        verdict: ``leaks``, ``recognisable``, ``not shown`` or ``inconclusive``; see
            ``fedlab.metrics.verdict.grade``. ``unscored`` where ``target`` is ``unknown``.
        objective: Distance between payloads that the attack used, after tuning.
        tv: Weight of the total variation prior, after tuning.
        iterations: Number of iterations.
        seconds: Wall time of the attack in seconds.
        payload_cosine: Cosine between the captured update and the update that the client must have
            sent; below 1 where the replay disagrees.
        signal_cosine: The same cosine without the DP noise of both updates.
        threat: ``honest-but-curious``, or ``malicious`` if the server tampered with the network or
            the weights that it sent.
        letter: The same by the letters of the literature: ``D`` or ``G``, or ``H`` for a server
            that singled the client out of a secure sum.
        reasons: The reasons why the attack is easier than a real one, such as ``labels known,
            untrained network``; empty for ``realistic``.
        power: Share of surrogate victims without a defense that leak to the same attack, in [0, 1];
            NaN where it was not measured.
        ceiling_identified: Largest probability with which any attack with as many guesses
            identifies the image among the ``alike`` images of its class in the pool, from all that
            the client sent up to the round, in [0, 1]. 1 certifies nothing, as where the client is
            not protected; NaN for other targets than ``original`` and under the accountant ``gdp``.
        ceiling_psnr: Largest mean PSNR in dB, from the same, of any attack for which the image is
            one of up to 200 public images of its class; values above 60 dB count as 60, which
            certifies nothing. NaN likewise.
        tuning_seconds: Wall time in seconds that the attack spent on surrogate victims; 0 where it
            reused settings that it had found, or is not tuned.
        choice: Settings that the attack chose for itself; empty where it is not tuned.
        skipped: The reason why the image was not attacked; empty where it was.
        aligned_psnr: PSNR in dB against the original or the input of the network, whichever is
            closer, after the best flip, small shift and small change of brightness and contrast.
            The verdict compares it with ``chance_psnr``, which is aligned alike.
        aligned_to: What is closer, ``original``, ``seen`` for the input of the network, or
            ``visible`` for those of its pixels that a crop or mask left; ``mirrored`` comes before
            it where a flip was needed.
        identified_10: 1 if the true image is the nearest in a pool of 10, otherwise 0.
        p_value: Probability that a guess made without the update identifies the image as well as
            this reconstruction does: the rank among the public images of its class, by pixels, or
            by structure and learned features both.
        alike: Number of images of the pool that have the class of the true image, which is counted.
        labels_guessed: True if the update said nothing about the labels, which were then guessed.
        rounds_jointly: Number of rounds whose updates of the image were attacked jointly.
        extra: Values of the metrics that the scenario adds, by column.
    """

    round: int
    client: int
    role: str
    defenses: str
    preset: str
    image: int
    target: str
    psnr: float = math.nan
    ssim: float = math.nan
    ms_ssim: float = math.nan
    registered_psnr: float = math.nan
    feature_distance: float = math.nan
    chance_psnr: float = math.nan
    chance_grey: float = math.nan
    chance_class_mean: float = math.nan
    chance_nearest: float = math.nan
    iip: float = math.nan
    pool: int = 0
    identification: float = math.nan
    label_correct: bool = False
    label_accuracy: float = math.nan
    known_labels: bool
    setting: str
    verdict: str
    objective: str = ""
    tv: float = math.nan
    iterations: int = 0
    seconds: float = 0.0
    payload_cosine: float = math.nan
    signal_cosine: float = math.nan
    threat: str = "honest-but-curious"
    letter: str = "D"
    reasons: str = ""
    power: float = math.nan
    ceiling_identified: float = math.nan
    ceiling_psnr: float = math.nan
    tuning_seconds: float = 0.0
    choice: str = ""
    skipped: str = ""
    aligned_psnr: float = math.nan
    aligned_to: str = ""
    identified_10: float = math.nan
    p_value: float = math.nan
    alike: int = 1
    labels_guessed: bool = False
    rounds_jointly: int = 1
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def graded_psnr(self) -> float:
        """PSNR in dB that the verdict compares with chance: aligned where that was measured."""
        return self.psnr if math.isnan(self.aligned_psnr) else self.aligned_psnr


def values_by_column(row: Any) -> dict[str, Any]:
    """Values of a row by column, safe for spreadsheets; a scenario's own metrics come last."""
    values = asdict(row)
    extra: dict[str, Any] = values.pop("extra", {})
    return {name: csv_cell(value) for name, value in (values | extra).items()}


def columns_of(kind: type[Any]) -> list[str]:
    """Built-in columns of the table with rows of a class."""
    return [each.name for each in fields(kind) if each.name != "extra"]
