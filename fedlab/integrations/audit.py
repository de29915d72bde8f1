"""An audit of one update of another federation: what was stated, what was rebuilt, and scores."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from attacks.knowledge import LocalSGD
from attacks.privacy_audit.membership import MembershipResult
from fedlab.core.errors import BadInput
from fedlab.core.plugins import describe
from fedlab.core.views import Viewable, show
from fedlab.evaluation.leaks import Leak, load_described_leaks, save_leaks
from fedlab.integrations.external_update import Kind
from fedlab.metrics.verdict import UNSCORED
from fedlab.results.attacks import GRADES


@dataclass(frozen=True)
class Terms:
    """What was stated about an update, which its attacker took for granted.

    Attributes:
        network: Name of the network.
        shape: Channels, height and width of an image.
        classes: Number of classes.
        kind: Content of the reply.
        num_images: Number of images behind the reply.
        steps: Number of local steps; 1 for a gradient.
        local: Local training of the client; ``None`` for a gradient.
        training_mode: True if the client's network was in training mode.
        mean: Mean of the normalisation for each channel.
        std: Standard deviation of the normalisation for each channel.
        labels_known: True if the labels were given.
        order: ``sequential`` or ``average``; see ``Knowledge.order``.
        defenses: Names of the client's defenses.
        public: Number of public images that the attacker had.
        accuracy: Accuracy of the network as it was sent on the public images; NaN without them.
        trained: Whether that is shown to be above the most frequent class; ``None`` if not.
        preset: Name of the attack.
        iterations: Number of iterations of one restart.
        restarts: Number of restarts.
        power: Share of simulated clients' images that leak to the attack; NaN if not measured.
        seed: Seed of the attack.
        sent: SHA-256 of the tensors that were sent.
        received: SHA-256 of the tensors of the reply.
    """

    network: str
    shape: tuple[int, int, int]
    classes: int
    kind: Kind
    num_images: int
    steps: int
    local: LocalSGD | None
    training_mode: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels_known: bool
    order: str
    defenses: tuple[str, ...]
    public: int
    accuracy: float
    trained: bool | None
    preset: str
    iterations: int
    restarts: int
    power: float
    seed: int
    sent: str
    received: str

    @property
    def letter(self) -> str:
        """Threat model by its letter in the literature: D with public images, C without."""
        return "D" if self.public else "C"


@dataclass(frozen=True)
class Audit(Viewable):
    """An update that was attacked, with the scores of its images where true ones were given.

    Attributes:
        name: The update in words, such as a file or ``round 1, client 0``.
        terms: What was stated about it.
        leak: Reconstructed and true images with one row of scores each; all NaN and ``unscored``
            without true images.
        findings: Signs that what was stated is wrong, as whole sentences.
        membership: How well the update tells the client's images from public ones; ``None`` without
            true and public images, or for a gradient.
    """

    name: str
    terms: Terms
    leak: Leak = field(repr=False)
    findings: tuple[str, ...] = ()
    membership: MembershipResult | None = None

    @property
    def verdict(self) -> str:
        """Best grade of any image; ``unscored`` without true images."""
        words = {row.verdict for row in self.leak.rows}
        return next((grade for grade in GRADES if grade in words), UNSCORED)

    def table(self) -> pd.DataFrame:
        """The scores, one row for each image, with the columns of ``leakage.csv``."""
        return self.leak.table()

    def report(self, path: Path | str, *, card: bool = False) -> Path:
        """Write one offline HTML page: verdict, threat model, consistency, pictures and scores.

        Args:
            path: The file, whose missing folders are made.
            card: Write one or two printed pages for somebody who must decide instead; ``path``
                ends in ``.html`` or ``.md``.

        Raises:
            BadInput: If the file cannot be written.
        """
        if card:
            show(self, "card", Path(path))
        else:
            show(self, "page", Path(path))
        return Path(path)

    def keep(self, path: Path) -> None:
        """Write the audit to one .npz file, whose folder must exist."""
        membership = self.membership and asdict(self.membership)
        about = {
            "name": self.name,
            "terms": asdict(self.terms),
            "findings": self.findings,
            # JSON has texts as keys only.
            "membership": membership and membership | {"tpr": list(membership["tpr"].items())},
        }
        save_leaks(path, [self.leak], about=json.dumps(about))

    @classmethod
    def load(cls, path: Path) -> "Audit":
        """Read an audit that ``keep`` wrote; its leak has no ``reconstruction``.

        Raises:
            BadInput: If the file is damaged or no audit.
        """
        (leak, *_), text = load_described_leaks(path)
        try:
            about: dict[str, Any] = json.loads(text)
            membership = about["membership"]
            return cls(
                name=str(about["name"]),
                terms=_terms(about["terms"]),
                leak=leak,
                findings=tuple(map(str, about["findings"])),
                membership=membership
                and MembershipResult(**membership | {"tpr": dict(membership["tpr"])}),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BadInput(f"{path} is no audit of fedlab ({describe(error)[:200]})") from error


def _terms(table: Mapping[str, Any]) -> Terms:
    """Terms from JSON, which has lists only."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    local: dict[str, Any] | None = values["local"]
    if local is not None:
        values["local"] = LocalSGD(**local | {"betas": tuple(local["betas"])})
    if values["kind"] not in get_args(Kind):
        raise ValueError(f"no kind of reply: {values['kind']!r}")
    return Terms(**values)
