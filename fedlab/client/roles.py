"""What a client can be in a round: honest, leaking or poisoning, and the settings of each."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedlab.schedule import ClientsText, RoundsText
from fedlab.settings import Settings


class Honest(Settings):
    """Trains on its own images and sends its weights. What a client is unless told otherwise."""

    role: Literal["honest"] = "honest"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"


class Leaking(Settings):
    """Sends the raw gradient of one batch (FedSGD), the payload that shows most of its images."""

    role: Literal["leaking"] = "leaking"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    batch_size: int = Field(default=1, ge=1)
    """Images in the batch; the expected number under ``sampling = "poisson"``."""
    sampling: Literal["fixed", "poisson"] = "fixed"
    """Under DP-SGD: a batch of exactly this size, accounted at q = 1, or a Poisson batch."""


class LabelFlip(Settings):
    """Trains some images under a wrong label: ``C - 1 - y``, or one class taken for another."""

    attack: Literal["label-flip"] = "label-flip"
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the images concerned that get the wrong label."""
    source: int | None = Field(default=None, ge=0)
    """With ``target``: only images of this class are relabelled."""
    target: int | None = Field(default=None, ge=0)


class BadNets(Settings):
    """Stamps a bright square into a corner of some images and labels them as the target."""

    attack: Literal["badnets"] = "badnets"
    share: float = Field(default=0.5, gt=0, le=1)
    """Share of the client's images that carry the trigger."""
    target: int = Field(default=0, ge=0)
    size: int = Field(default=3, ge=1)
    """Side of the square trigger in pixels."""
    corner: Literal["top-left", "top-right", "bottom-left", "bottom-right"] = "bottom-right"


class Scaling(Settings):
    """Multiplies the update before it is sent (model replacement)."""

    attack: Literal["scaling"] = "scaling"
    factor: float = Field(default=10.0)


DataPoison = Annotated[LabelFlip | BadNets, Field(discriminator="attack")]
UpdatePoison = Scaling


class Poisoning(Settings):
    """Tampers with its data, its update, or both; with neither given, it flips labels."""

    role: Literal["poisoning"] = "poisoning"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    data: DataPoison | None = None
    update: UpdatePoison | None = None
    obeys_defenses: bool | None = None
    """Whether it runs the scheduled defenses. Unless given: yes with honest code on tampered
    data, no once it tampers with its update."""

    @model_validator(mode="before")
    @classmethod
    def _flips_unless_told_otherwise(cls, given: dict[str, object]) -> dict[str, object]:
        neither = given.get("data") is None and given.get("update") is None
        return {**given, "data": LabelFlip()} if neither else given

    @property
    def runs_defenses(self) -> bool:
        """Whether scheduled defenses apply to it."""
        return self.update is None if self.obeys_defenses is None else self.obeys_defenses


Role = Annotated[Honest | Leaking | Poisoning, Field(discriminator="role")]
