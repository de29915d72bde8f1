"""The result of one round: its rows in all tables."""

import math
from dataclasses import dataclass

from fedlab.privacy.ledger import LedgerRow
from fedlab.results.attacks import UNKNOWN
from fedlab.results.rows import ClientRow, LeakageRow, RoundRow


@dataclass(frozen=True)
class RoundResult:
    """The rows of one round in all tables.

    Attributes:
        model: Scores of the global model after the round.
        clients: One row for each sampled client.
        leakage: One row for each image behind an attacked update, and one for each attacked update
            without an image.
        ledger: One row for each participation and mechanism.
    """

    model: RoundRow
    clients: tuple[ClientRow, ...]
    leakage: tuple[LeakageRow, ...]
    ledger: tuple[LedgerRow, ...]

    def __str__(self) -> str:
        """One line about the round."""
        parts = [f"round {self.model.round}: accuracy {self.model.accuracy:.3f}"]
        if self.model.attack_success_rate is not None:
            chance = self.model.chance_success_rate
            parts.append(
                f"attack success {self.model.attack_success_rate:.3f}"
                + ("" if chance is None else f" (chance {chance:.3f})")
            )
        if rebuilt := [row for row in self.leakage if row.target == "original"]:
            # The PSNR is NaN if nothing was reconstructed of an image.
            found = (row.graded_psnr for row in rebuilt)
            best = max((psnr for psnr in found if not math.isnan(psnr)), default=math.nan)
            leaking = sum(row.verdict == "leaks" for row in rebuilt)
            malicious = any(row.threat == "malicious" for row in rebuilt)
            skipped = sum(bool(row.skipped) for row in rebuilt)
            parts.append(
                f"{leaking} of {len(rebuilt)} images leak"
                + (f" ({skipped} not attacked)" if skipped else "")
                + (f", best {best:.1f} dB" if skipped < len(rebuilt) else "")
                + (" (malicious server)" if malicious else "")
            )
        if unscored := sum(row.target == UNKNOWN for row in self.leakage):
            parts.append(f"{unscored} images reconstructed, unscored")
        for status, words in (
            ("budget", "over budget"),
            ("withheld", "withholding"),
            ("refused", "skipped"),
        ):
            if who := [row.client for row in self.clients if row.status == status]:
                parts.append(f"{words} clients {who}")
        return ", ".join(parts) + f" ({self.model.seconds:.1f} s)"

    def __repr__(self) -> str:
        return f"RoundResult({self})"
