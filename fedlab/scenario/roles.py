"""What a client can be in a round: honest, leaking or poisoning, and the settings of each."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedlab.core.settings import Scheduled
from fedlab.poisoning.settings import Colluding, DataSettings, LabelFlip, UpdateSettings


class Honest(Scheduled):
    """Trains on its own images and sends its weights. What a client is unless told otherwise."""

    role: Literal["honest"] = "honest"


class Leaking(Scheduled):
    """Sends the raw gradient of one batch (FedSGD), the payload that shows most of its images."""

    role: Literal["leaking"] = "leaking"
    batch_size: int = Field(default=1, ge=1)
    """Images in the batch; the expected number under ``sampling = "poisson"``."""
    sampling: Literal["fixed", "poisson"] = "fixed"
    """Under DP-SGD: a batch of exactly this size, accounted at q = 1, or a Poisson batch."""


class Poisoning(Scheduled):
    """Tampers with its data, its update, its weight, or several; else it flips labels."""

    role: Literal["poisoning"] = "poisoning"
    data: DataSettings | None = None
    update: UpdateSettings | None = None
    claims: int | None = Field(default=None, ge=1)
    """Examples that it claims to have trained on, which is its weight in an average."""
    obeys_defenses: bool | None = None
    """Whether it runs the scheduled defenses. Unless given: yes with honest code on tampered
    data, no once it tampers with its update."""

    @model_validator(mode="before")
    @classmethod
    def _flips_unless_told_otherwise(cls, given: dict[str, object]) -> dict[str, object]:
        nothing = all(given.get(key) is None for key in ("data", "update", "claims"))
        return {**given, "data": LabelFlip()} if nothing else given

    @model_validator(mode="after")
    def _an_update_of_its_own(self) -> Self:
        if isinstance(self.update, Colluding) and self.data is not None:
            raise ValueError(
                f"{self.update.attack} sends an update made from those of others, so poisoned "
                "data would change nothing: give one of data and update"
            )
        if isinstance(self.update, Colluding) and self.obeys_defenses:
            raise ValueError(
                f"{self.update.attack} sends an update made from undefended ones, so no defense "
                "that it ran would protect anything: leave obeys_defenses out"
            )
        return self

    @property
    def runs_defenses(self) -> bool:
        """Whether scheduled defenses apply to it."""
        honest_code = self.update is None and self.claims is None
        return honest_code if self.obeys_defenses is None else self.obeys_defenses


Role = Annotated[Honest | Leaking | Poisoning, Field(discriminator="role")]
