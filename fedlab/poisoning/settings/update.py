"""What a poisoning client can do to its update before it sends it."""

from typing import Literal

from pydantic import Field

from fedlab.core.settings import Settings


class Scaling(Settings):
    """Multiplies the update before it is sent (boosting; model replacement)."""

    attack: Literal["scaling"] = "scaling"
    factor: float = Field(default=10.0)


class ConstrainAndScale(Settings):
    """Trains longer and close to the global weights, then scales (Bagdasaryan et al. 2020).

    Its loss is ``alpha`` times that of the images plus ``1 - alpha`` times the squared distance
    from the global weights.
    """

    attack: Literal["constrain-and-scale"] = "constrain-and-scale"
    factor: float = Field(default=10.0)
    alpha: float = Field(default=0.9, gt=0, le=1)
    epochs: int | None = Field(default=None, ge=1)
    """Of its local training; those that the server asks for unless given."""
    lr: float | None = Field(default=None, gt=0)
    """Likewise."""


class SignFlip(Settings):
    """Turns the update round."""

    attack: Literal["sign-flip"] = "sign-flip"
    factor: float = Field(default=1.0, gt=0)
    """Multiplies it as well."""


class Gaussian(Settings):
    """A random update: what any attack on updates has to beat."""

    attack: Literal["gaussian"] = "gaussian"
    factor: float = Field(default=1.0, gt=0)
    """Its norm over that of the honest update."""


class Colluding(Settings):
    """Made from honest updates that the attacker knows; its own training is not sent at all."""

    knows: Literal["colluders", "everyone"] = "colluders"
    """Whose honest updates of the round: those that the clients that poison in the same way would
    have sent, or those of all clients that do not poison, an upper bound that no client could
    reach. Defenses are left out of them."""


class LittleIsEnough(Colluding):
    """The mean of honest updates, moved by z standard deviations (Baruch et al. 2019, ALIE)."""

    attack: Literal["little-is-enough"] = "little-is-enough"
    z: float | None = Field(default=None, ge=0)
    """As far as the numbers of clients and colluders allow unless given."""


class InnerProduct(Colluding):
    """The mean of honest updates turned round, small enough to pass (Xie et al. 2020, IPM)."""

    attack: Literal["inner-product"] = "inner-product"
    epsilon: float = Field(default=0.5, gt=0)
    """Its length over that of the mean; above 1 it hides less and turns the average round."""


class MinMax(Colluding):
    """As far from honest updates as one of them is from another (Shejwalkar et al. 2021)."""

    attack: Literal["min-max"] = "min-max"
    direction: Literal["mean", "sign", "deviation"] = "deviation"
    """Where it moves: against the mean, against its sign, or by the standard deviation."""


class MinSum(Colluding):
    """The same, by the sum of squared distances to all of them."""

    attack: Literal["min-sum"] = "min-sum"
    direction: Literal["mean", "sign", "deviation"] = "deviation"
