"""Columns of leakage rows with what no attack on the client's releases can exceed."""

import math
from dataclasses import dataclass, field

from fedlab.metrics.public_pool import PublicPool
from fedlab.privacy.ceiling import ceiling
from fedlab.privacy.image_prior import Floats, levels_of, mean_psnr_ceiling
from fedlab.privacy.release import History
from fedlab.scenario.tables import Privacy

PRIOR = 200
"""Largest number of public images of a class that are the prior for PSNR."""


@dataclass(frozen=True)
class RowCeilings:
    """Ceilings on identification and PSNR for rows of ``leakage.csv``.

    The attacker may know everything but which image of a prior the true one is. For identification
    the prior is the true image and the public ones of its class in the row's pool, duplicates left
    out. For PSNR it is up to ``PRIOR`` public images of the class.

    What the attacker sees are all releases of the client up to the round, not of the round alone:
    the global weights that it starts from depend on the earlier ones. One of several guesses may be
    right by chance, so that chance grows with their number.

    Attributes:
        pool: Public images.
        privacy: Settings of the ledger.
    """

    pool: PublicPool
    privacy: Privacy
    _levels: dict[int, Floats] = field(default_factory=dict, repr=False)

    def of(
        self, history: History, *, round: int, label: int, alike: int, guesses: int
    ) -> tuple[float, float]:
        """Compute the columns ``ceiling_identified`` and ``ceiling_psnr`` of a row.

        Args:
            history: Privacy history of the client.
            round: Round of the attacked release.
            label: Class of the true image.
            alike: Number of images of the class in the row's pool, the true one included.
            guesses: Number of reconstructed images that may be paired with the true one; of an
                image that was mixed, times the number of images in the mixture.

        Returns:
            The two values. A client that is not protected has ceilings of 1 and 60 dB,
            which certify nothing. Both are NaN under the accountant ``gdp``, which is no bound, and
            if the history lacks the round.
        """
        seen = tuple(entry for entry in history if entry.round <= round)
        if self.privacy.accountant == "gdp" or not any(e.round == round for e in seen):
            return math.nan, math.nan
        public = self.privacy.labels_public
        found = ceiling(seen, min(1.0, guesses / alike), labels_public=public)
        levels = self._levels_of(label)
        psnr = mean_psnr_ceiling(seen, levels, guesses=guesses, labels_public=public)
        return found, psnr

    def _levels_of(self, label: int) -> Floats:
        if label not in self._levels:
            self._levels[label] = levels_of(self.pool.of_class(label, most=PRIOR))
        return self._levels[label]
