"""The referee compares what an attacker reconstructed with what clients did.

The Federation calls it, never the server, and nothing that it knows goes back to either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from torch import Tensor

from attacks.reconstruction import Reconstruction
from attacks.reconstruction.components import name_of
from fedlab.client.federated_data import FederatedData
from fedlab.evaluation.ceilings import RowCeilings
from fedlab.evaluation.leaks import Leak
from fedlab.evaluation.replay import Truth
from fedlab.metrics.metric import Metric
from fedlab.metrics.public_pool import PublicPool
from fedlab.metrics.scores import matched, score
from fedlab.metrics.verdict import setting
from fedlab.privacy.release import History
from fedlab.protocol.task import ClientTask
from fedlab.results.rows import LeakageRow
from fedlab.scenario.tables import Privacy
from fedlab.server.captures import Capture


class Referee:
    """Scores reconstructions against the true images.

    Args:
        federated: Images of all clients, and the public ones.
        metrics: Further metrics, each one more column.
        privacy: Settings of the ledger, by which ceilings are computed.
    """

    def __init__(
        self,
        federated: FederatedData,
        metrics: Sequence[Metric] = (),
        privacy: Privacy | None = None,
    ) -> None:
        self._federated = federated
        self._metrics = tuple(metrics)
        self._privacy = privacy or Privacy()

    @cached_property
    def _pool(self) -> PublicPool:
        """The test images, which stand for public ones."""
        data = self._federated.data
        return PublicPool(data.test_images.cpu(), data.test_labels.cpu(), self._federated.seed)

    @cached_property
    def _ceilings(self) -> RowCeilings:
        return RowCeilings(self._pool, self._privacy)

    def score(
        self,
        capture: Capture,
        tasks: Mapping[int, ClientTask],
        truth: Truth,
        reconstruction: Reconstruction,
        *,
        preset: str,
        order_known: bool = False,
        histories: Mapping[int, History] | None = None,
    ) -> Leak:
        """Score reconstructed images against the true ones, paired one to one.

        Each image has one row with the target ``original``, which carries its verdict. Where each
        input of the network was a changed version of one image, the verdict is about the input or
        the original, whichever is closer. A mixture is not the image of anyone: its verdict is
        about the best reconstructed of its k images alone. A further row, ``mixed`` or
        ``changed``, compares with the input of the network and is for information.

        A true image without a reconstruction is scored NaN and ``inconclusive``, as when a
        Poisson batch is larger than expected, or for the other classes under class fishing.

        Args:
            capture: The captured update.
            tasks: Tasks of the clients behind it, by client.
            truth: Images behind it.
            reconstruction: Result of the attack.
            preset: Name of the attack for the ``preset`` column.
            order_known: True if the attacker knew the order of the images.
            histories: Privacy histories by client, for the columns of ceilings.
        """
        guess, recovered = matched(truth.inputs, reconstruction)
        own = _best_source(guess, truth)
        originals = self._federated.data.pixels(truth.shard.images[own])
        scoring = _Scoring(
            self._pool,
            self._metrics,
            capture,
            tasks,
            truth,
            reconstruction,
            preset,
            order_known,
            self._ceilings,
            histories or {},
        )
        labels = truth.shard.labels[own]
        rows = scoring.rows("original", guess, originals, labels, own, recovered)
        if truth.mixed or truth.changed:
            target = "mixed" if truth.mixed else "changed"
            rows += scoring.rows(target, guess, truth.inputs, truth.labels, own, recovered)
        return Leak(
            rows=tuple(rows),
            originals=originals.cpu(),
            mixed=truth.inputs.cpu() if truth.mixed else None,
            rebuilt=guess.cpu(),
            reconstruction=reconstruction,
        )


@dataclass(frozen=True)
class _Scoring:
    """Makes the rows of one reconstruction."""

    pool: PublicPool
    metrics: tuple[Metric, ...]
    capture: Capture
    tasks: Mapping[int, ClientTask]
    truth: Truth
    reconstruction: Reconstruction
    preset: str
    order_known: bool
    ceilings: RowCeilings
    histories: Mapping[int, History]

    def rows(
        self,
        target: str,
        guess: Tensor,
        true: Tensor,
        labels: Tensor,
        own: Tensor,
        recovered: Tensor,
    ) -> list[LeakageRow]:
        """One row for each true image.

        Args:
            target: Value of the column ``target``.
            guess: Reconstructed image for each true one.
            true: True images.
            labels: Their labels.
            own: Index of each in the clients' images.
            recovered: Recovered label for each.
        """
        attack, classes = self.reconstruction.attack, self.truth.shard.labels[own]
        scores = score(
            true,
            guess,
            pool=self.pool,
            labels=labels,
            recovered=recovered,
            classes=classes,
            seen=self.truth.inputs if target == "original" and self.truth.changed else None,
            parts=self.truth.sources.shape[1] if target == "mixed" else 1,
            metrics=self.metrics,
        )
        circumstances = setting(
            labels_known=self.reconstruction.labels_known,
            steps=self.capture.payload.steps,
            trained=self.capture.round > 1,
            training_mode=self.capture.facts.training_mode,
            order_known=self.order_known,
            batch_known=self.reconstruction.rounds > 1 and self.capture.payload.kind == "gradient",
        )
        owners = [self.tasks[client] for client in self.truth.owners.tolist()]
        known: Mapping[int, History] = self.histories if target == "original" else {}
        guesses = len(self.reconstruction.images) * self.truth.sources.shape[1]
        ceilings = [
            self.ceilings.of(
                known.get(owner.client, ()),
                round=self.capture.round,
                label=label,
                alike=each.alike,
                guesses=guesses,
            )
            for each, owner, label in zip(scores, owners, classes.tolist(), strict=True)
        ]
        return [
            LeakageRow(
                **asdict(each),
                round=self.capture.round,
                client=owner.client,
                role=owner.role.role,
                defenses=owner.defense_names,
                preset=self.preset,
                target=target,
                known_labels=self.reconstruction.labels_known,
                labels_guessed=self.reconstruction.labels_guessed,
                rounds_jointly=self.reconstruction.rounds,
                setting=circumstances.name,
                objective=name_of(attack.objective),
                tv=attack.tv,
                iterations=len(self.reconstruction.costs),
                seconds=self.reconstruction.seconds,
                payload_cosine=self.truth.payload_cosine,
                signal_cosine=self.truth.signal_cosine,
                threat=self.capture.facts.threat,
                letter=self.capture.facts.letter,
                reasons=", ".join(circumstances.reasons),
                ceiling_identified=identified,
                ceiling_psnr=psnr,
            )
            for each, owner, (identified, psnr) in zip(scores, owners, ceilings, strict=True)
        ]


def _best_source(guess: Tensor, truth: Truth) -> Tensor:
    """Index in the shard of the image in each input that its reconstruction is nearest to."""
    sources = truth.sources
    images = truth.shard.images[sources].float().div(255)  # [n, k, channels, height, width]
    distance = (images - guess.unsqueeze(1)).flatten(2).norm(dim=2)
    return sources.gather(1, distance.argmin(1, keepdim=True)).squeeze(1)
