"""What one participation of one client costs in privacy, as a fact that may travel."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Mechanism = Literal["none", "dp-sgd", "dp-instahide"]


@dataclass(frozen=True)
class Spending:
    """One mechanism that a client ran in one round.

    Attributes:
        round: Counted from 1.
        mechanism: ``none`` for an open participation.
        clipping_norm: DP-SGD: largest L2 norm of one example's gradient.
        noise_multiplier: DP-SGD: noise standard deviation over the clipping norm.
        sample_rate: DP-SGD: probability that an example joins a batch.
        steps: DP-SGD: number of noisy gradients released. DP-InstaHide: mixed records released.
        epsilon: DP-InstaHide: formal epsilon of the round; ``None`` where there is no bound.
    """

    round: int
    mechanism: Mechanism
    clipping_norm: float | None = None
    noise_multiplier: float | None = None
    sample_rate: float | None = None
    steps: int | None = None
    epsilon: float | None = None


History = tuple[Spending, ...]


def to_json(history: Sequence[Spending]) -> str:
    """A client's history as text; infinite values as strings, so that it is strict JSON."""
    rows = [
        {
            k: "inf" if isinstance(v, float) and math.isinf(v) else v
            for k, v in asdict(entry).items()
            if v is not None
        }
        for entry in history
    ]
    return json.dumps(rows, separators=(",", ":"))


def from_json(text: str) -> History:
    """Read what ``to_json`` wrote.

    Raises:
        ValueError: If the text is anything else.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(text)
        return tuple(Spending(**_finite_or_not(row)) for row in rows)
    except (TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"this is no accountant history: {error}") from error


def longer(one: History, other: History) -> History:
    """The longer of two histories of the same client.

    A client and the server may each know more than the other after a crash; one must then
    continue the other.

    Raises:
        ValueError: If they disagree, since no honest total can be given then.
    """
    short, long = sorted((one, other), key=len)
    if long[: len(short)] != short:
        raise ValueError(
            "the client's accountant history and the server's disagree, so no total epsilon "
            "would be right; start the experiment anew"
        )
    return long


def _finite_or_not(row: dict[str, Any]) -> dict[str, Any]:
    return {key: math.inf if value == "inf" else value for key, value in row.items()}
