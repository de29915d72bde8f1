"""What the server and a client of a deployment must agree on before the client trains."""

import hashlib
from collections.abc import Mapping

from fedlab.core.settings import Settings
from fedlab.scenario.scenario import Scenario

TERMS = "terms"
"""Name of the record of the terms in a message of the server."""

REFUSAL = "refusal"
"""Name of the record with the sentence of a client that does not take part."""


class Terms(Settings):
    """Facts about a federation that the server sends with every message of a deployment.

    Attributes:
        scenario: Digest of the scenario; see ``scenario_digest``.
        clients: Number of clients, at least 1.
        classes: Names of the classes, in order of their labels.
        shape: Channels, height and width of an image.
        mean: Mean of each channel, of the normalisation that all clients use.
        std: Standard deviation of each channel, of the same normalisation.
    """

    scenario: str
    clients: int
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def difference(self, other: "Terms") -> str | None:
        """Say in what a client's own terms differ; ``None`` if they agree.

        Args:
            other: Terms that the client derives from its own scenario and images.
        """
        if self.scenario != other.scenario:
            return (
                f"its scenario (digest {other.scenario[:12]}) is not the server's "
                f"({self.scenario[:12]}): give both the same file"
            )
        words: Mapping[str, tuple[object, object]] = {
            "classes": (", ".join(self.classes), ", ".join(other.classes)),
            "images of the shape": (self.shape, other.shape),
            "normalisation": ((self.mean, self.std), (other.mean, other.std)),
        }
        for name, (wanted, found) in words.items():
            if wanted != found:
                return f"the server has the {name} {wanted}, but this client has {found}"
        return None


def scenario_digest(scenario: Scenario) -> str:
    """SHA-256 of everything that a scenario says; comments and the order of keys do not count."""
    return hashlib.sha256(scenario.to_toml().encode()).hexdigest()
