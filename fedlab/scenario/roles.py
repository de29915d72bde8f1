"""The roles that a client can have in a round: honest, leaking or poisoning."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedlab.core.settings import LARGEST, Count, Scheduled
from fedlab.poisoning import AnyPoison, AnyUpdateAttack, ColludingAttack
from fedlab.poisoning.label_flip import LabelFlip


class Honest(Scheduled):
    """Trains on its own images and sends its weights. This is the default role."""

    role: Literal["honest"] = "honest"


class Leaking(Scheduled):
    """Sends the raw gradient of one batch (FedSGD), the payload that reveals most of its images."""

    role: Literal["leaking"] = "leaking"
    batch_size: Count = Field(default=1, ge=1)
    """Images in the batch, at least 1; their expected number with ``sampling = "poisson"``."""
    sampling: Literal["fixed", "poisson"] = "fixed"
    """Batch under DP-SGD: ``fixed`` has exactly this size and is accounted at q = 1; ``poisson``
    is a Poisson sample."""


class Poisoning(Scheduled):
    """Tampers with its data, its update or its weight; by default it flips its labels."""

    role: Literal["poisoning"] = "poisoning"
    data: AnyPoison | None = None
    """Poison of the client's images and labels, such as ``{ attack = "badnets" }``."""
    update: AnyUpdateAttack | None = None
    """Attack on the client's update, such as ``{ attack = "scaling", factor = 5.0 }``."""
    claims: int | None = Field(default=None, ge=1, le=LARGEST)
    """Number of examples that the client claims to have trained on, at least 1: its weight in an
    average. By default it tells the truth."""
    obeys_defenses: bool | None = None
    """Run the scheduled defenses. By default a client that only poisons its data runs them, and
    one that tampers with its update or its weight does not."""

    @model_validator(mode="before")
    @classmethod
    def _flip_labels_by_default(cls, given: dict[str, object]) -> dict[str, object]:
        nothing = all(given.get(key) is None for key in ("data", "update", "claims"))
        return {**given, "data": LabelFlip()} if nothing else given

    @model_validator(mode="after")
    def _check_collusion(self) -> Self:
        if isinstance(self.update, ColludingAttack) and self.data is not None:
            raise ValueError(
                f"{self.update.key} sends an update made from those of others, so poisoned "
                "data would change nothing: give one of data and update"
            )
        if isinstance(self.update, ColludingAttack) and self.obeys_defenses:
            raise ValueError(
                f"{self.update.key} sends an update made from undefended ones, so no defense "
                "that the client runs would protect anything: leave obeys_defenses out"
            )
        return self

    @property
    def runs_defenses(self) -> bool:
        """True if the client runs the scheduled defenses."""
        honest_code = self.update is None and self.claims is None
        return honest_code if self.obeys_defenses is None else self.obeys_defenses


Role = Annotated[Honest | Leaking | Poisoning, Field(discriminator="role")]
