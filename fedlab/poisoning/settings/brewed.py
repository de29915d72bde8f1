"""Poisons that are brewed: small changes of images whose labels stay right."""

from typing import Literal, Self

from pydantic import Field, model_validator

from attacks.poisoning.perturbation import whole_steps
from fedlab.core.settings import Settings


class Brewed(Settings):
    """What all of them can be told.

    Against ``global`` weights the client brews with the network that the server has just sent it,
    stronger than the papers' grey box; against its ``own`` it first trains networks from scratch on
    its clean images, as they do.
    """

    epsilon: float = Field(default=16 / 255, gt=0, le=1)
    """Largest change of a pixel, on pixels in [0, 1]."""
    control: bool = False
    """Change the same images by as much at random instead, which a real attack has to beat."""
    against: Literal["global", "own"] = "global"
    when: Literal["each-round", "once"] = "each-round"
    """Brew anew in every round, or only in the first one that the client poisons."""
    epochs: int = Field(default=20, ge=1)
    """Of its own networks."""
    steps: int = Field(default=250, ge=1)
    """Of brewing."""

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        # A control that changes nothing is the same run without a poison.
        if not self.control and not whole_steps(self.epsilon):
            raise ValueError(
                f"epsilon {self.epsilon:g} is less than one level of a pixel, 1/255, and would "
                "change nothing"
            )
        return self


class Targeted(Brewed):
    """Wants one test image to be taken for a class, with poisons of that class."""

    image: int | None = Field(default=None, ge=0)
    """Place among the test images; drawn by seed, of any other class, unless given."""
    target: int = Field(default=0, ge=0)
    """The class that the image shall be taken for."""
    share: float = Field(default=0.05, gt=0, le=1)
    """Poison budget: so many images over all that the client holds, but no more than it has of
    the target class."""


class GradientMatching(Targeted):
    """Witches' Brew: poisons whose gradient points where the target's would (arXiv 2009.02276)."""

    attack: Literal["gradient-matching"] = "gradient-matching"
    restarts: int = Field(default=8, ge=1)
    augment: bool = True
    """Brew through random crops and flips, as victims that use them will see the poisons."""
    ensemble: int = Field(default=1, ge=1)
    """Own networks to brew against together; of global ones there is one."""


class MetaPoison(Targeted):
    """Poisons made through some steps of the victim's training (arXiv 2004.00225)."""

    attack: Literal["metapoison"] = "metapoison"
    epsilon: float = Field(default=8 / 255, gt=0, le=1)
    steps: int = Field(default=60, ge=1)
    unroll: int = Field(default=2, ge=1)
    """Steps of SGD that the poisons' effect is followed through."""
    ensemble: int = Field(default=8, ge=1)
    """Networks at as many stages of a training run of ``epochs``; they train on while brewing."""
    rate: float = Field(default=1.0, gt=0)
    """First step of Adam, in units of epsilon; the authors' code has 25."""
    colour: float = Field(default=0.0, ge=0, le=0.2)
    """Largest shift of a colour by a smooth remapping, beside epsilon; the paper's is 0.04."""


class Availability(Brewed):
    """Changes images so that whoever trains on them learns little (arXiv 2103.02683)."""

    attack: Literal["availability"] = "availability"
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the client's images that are changed; the papers change all."""
    method: Literal["alignment", "adversarial"] = "alignment"
    """Align the training gradient with that of the reverse cross-entropy, or take adversarial
    examples of another class as they are (arXiv 2106.10807)."""
    against: Literal["global", "own"] = "own"
    when: Literal["each-round", "once"] = "once"


class HiddenTrigger(Brewed):
    """Sleeper Agent: a patch that never shows in training works afterwards (arXiv 2106.08970)."""

    attack: Literal["hidden-trigger"] = "hidden-trigger"
    source: int = Field(default=1, ge=0)
    """Class whose images the patch shall turn into the target."""
    target: int = Field(default=0, ge=0)
    share: float = Field(default=0.05, gt=0, le=1)
    """Poison budget: so many images over all that the client holds, but no more than it has of
    the target class."""
    size: int = Field(default=8, ge=1)
    """Side of the square patch in pixels."""
    corner: Literal["top-left", "top-right", "bottom-left", "bottom-right"] = "bottom-right"
    restarts: int = Field(default=1, ge=1)
    augment: bool = True
    retrains: int = Field(default=0, ge=0)
    """How often an own network is trained anew on the poisons so far, while brewing."""

    @model_validator(mode="after")
    def _from_one_class_to_another(self) -> Self:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source}")
        return self
