"""Attacks by name, each with the settings that its paper or public code used."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    """The settings of a reconstruction.

    Attributes:
        objective: How payloads are compared.
        tv: Weight of the total variation.
        iterations: Steps of each restart.
        lr: Step size in normalised pixels.
        restarts: Starting images; the one with the lowest matching cost wins.
        signed: Whether Adam sees only the sign of the gradient.
        boxed: Whether pixels are kept in their range.
        source: Where the settings come from.

    Raises:
        ValueError: If a number is out of range.
    """

    objective: str = "cosine"
    tv: float = 1e-4
    iterations: int = 4_800
    lr: float = 0.1
    restarts: int = 1
    signed: bool = True
    boxed: bool = True
    source: str = ""

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.restarts < 1 or self.lr <= 0 or self.tv < 0:
            raise ValueError(
                "iterations and restarts must be at least 1, lr above 0 and tv at least 0"
            )


PRESETS: dict[str, Attack] = {
    "inverting-gradients": Attack(
        source="Geiping et al. 2020 (arXiv 2003.14053): library default of 4,800 iterations, "
        "total variation 1e-4 as on its command line"
    ),
}
