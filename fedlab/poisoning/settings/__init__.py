"""The settings of each poison as a scenario names them, by how it is made."""

from typing import Annotated

from pydantic import Field

from fedlab.poisoning.settings.brewed import (
    Availability,
    Brewed,
    GradientMatching,
    HiddenTrigger,
    MetaPoison,
    Targeted,
)
from fedlab.poisoning.settings.labels import BadNets, Blended, Distributed, LabelFlip, Sinusoidal
from fedlab.poisoning.settings.update import (
    Colluding,
    ConstrainAndScale,
    Gaussian,
    InnerProduct,
    LittleIsEnough,
    MinMax,
    MinSum,
    Scaling,
    SignFlip,
)

__all__ = [
    "Availability",
    "BadNets",
    "Blended",
    "Brewed",
    "Colluding",
    "ConstrainAndScale",
    "DataSettings",
    "Distributed",
    "Gaussian",
    "GradientMatching",
    "HiddenTrigger",
    "InnerProduct",
    "LabelFlip",
    "LittleIsEnough",
    "MetaPoison",
    "MinMax",
    "MinSum",
    "Scaling",
    "SignFlip",
    "Sinusoidal",
    "Targeted",
    "UpdateSettings",
]

DataSettings = Annotated[
    LabelFlip
    | BadNets
    | Blended
    | Sinusoidal
    | Distributed
    | GradientMatching
    | MetaPoison
    | Availability
    | HiddenTrigger,
    Field(discriminator="attack"),
]
"""Every poison of data that a scenario can name. A new one adds its settings here."""

UpdateSettings = Annotated[
    Scaling
    | ConstrainAndScale
    | SignFlip
    | Gaussian
    | LittleIsEnough
    | InnerProduct
    | MinMax
    | MinSum,
    Field(discriminator="attack"),
]
"""Every poison of updates that a scenario can name."""
