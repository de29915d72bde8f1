"""Settings of a reconstruction, and presets with the values of a paper or its public code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from attacks.knowledge import MOST_IMAGES
from attacks.reconstruction.components import (
    INITIALISATIONS,
    LABEL_RULES,
    MASKS,
    METHODS,
    OBJECTIVES,
    PARAMETRISATIONS,
    PRIORS,
    SCHEDULES,
)

if TYPE_CHECKING:
    from attacks.reconstruction.initialisation import Initialisation
    from attacks.reconstruction.masks import Mask
    from attacks.reconstruction.methods import Method
    from attacks.reconstruction.objectives import ObjectiveFactory
    from attacks.reconstruction.output_layer import LabelRule
    from attacks.reconstruction.parametrisations import ParametrisationFactory
    from attacks.reconstruction.priors import Prior
    from attacks.reconstruction.schedules import Schedule

MOST_UNMIXED = 1024
"""Largest number of images that the cocktail party attack unmixes, as in its paper."""

JOINT = "joint"
"""Label rule that optimises soft labels together with the images."""

PRIOR_FIELDS = {
    "total-variation": "tv",
    "norm": "norm",
    "statistics": "statistics",
    "features": "features",
}
"""Field of ``AttackSettings`` that holds the weight of each built-in prior."""


@dataclass(frozen=True)
class AttackSettings:
    """Settings of a reconstruction.

    Fields that take the name of a component also take an object of that kind.

    Attributes:
        method: Name of the method: ``optimise`` searches for images by gradient descent;
            ``analytic`` solves for the input of a fully connected first layer and ignores the
            settings below; ``spear`` does so with ``iterations`` rounds of 32 searches;
            ``cocktail-party`` unmixes the inputs of a fully connected layer, and uses label rule,
            tv, lr, initialisation and iterations to invert features; ``learned`` trains a network
            on simulated clients, and uses label rule and iterations.
        parametrisation: What ``optimise`` moves, a key of ``PARAMETRISATIONS``: ``pixels``, or the
            weights of an untrained network, ``deep-decoder``, which needs Adam without sign,
            smoothing, chroma and langevin, and leaves boxed and initialisation aside. Of the
            iterations, the first third searches for pixels, and for the labels of ``joint``.
        objective: Name of the distance between payloads, a key of ``OBJECTIVES``.
        mask: Name of the choice of payload entries to compare, a key of ``MASKS``; all entries
            if ``None``.
        local_steps: How an update of several local steps is explained: ``unroll`` simulates each
            step; ``gradient`` takes the update for one gradient at the global weights, and
            ``surrogate`` for one at a point between the global and the client's weights, which is
            found along with the images (Zhu et al. 2023, SME). The last two need SGD.
        match: Weight of the objective relative to the priors, above 0.
        tv: Weight of the total variation prior, at least 0.
        tv_isotropic: Use the isotropic form of the total variation.
        tv_opponents: Also smooth the differences between colour channels.
        tv_start: Factor of the weight of the total variation at the start, at least 1. It falls
            geometrically to 1 over the first four fifths of the iterations, so that the search
            finds the coarse shapes first.
        norm: Weight of the prior on the mean square of the pixels, at least 0.
        statistics: Weight of the squared distance to the network's BatchNorm statistics.
        features: Weight of the squared distance to features recovered from the last layer.
        priors: Further priors with their weights, as pairs.
        group: Weight of the distance of each restart from the registered mean of all restarts.
        label_rule: Name of the rule for unknown labels, a key of ``LABEL_RULES``, or ``joint`` to
            optimise soft labels together with the images.
        optimiser: ``adam`` or ``l-bfgs``; the fields from ``sign`` to ``langevin`` apply to Adam.
        sign: Form of the gradient that Adam receives: ``hard`` for its sign, ``soft`` for a sign
            that becomes linear towards the end, ``none`` for the gradient itself.
        smoothing: Exponent of a low-pass filter on the gradient of the images, at least 0: an
            amplitude of spatial frequency f is divided by f to this power; 0 for no filter.
        chroma: Factor of the differences between colour channels in the gradient of the images, in
            (0, 1]; below 1 the search prefers brightness, which most of a photograph consists of.
        betas: Decay rates of Adam's moment estimates.
        schedule: Name of the schedule of the step size, a key of ``SCHEDULES``.
        warmup: Number of iterations over which the step size first rises linearly.
        langevin: Standard deviation of noise on the gradient, in units of the step size.
        lr: Step size in normalised pixels, above 0.
        boxed: Clamp pixels to their valid range after each step.
        initialisation: Name of the distribution of the first images, a key of
            ``INITIALISATIONS``.
        iterations: Number of steps of each restart, at least 1; of ``learned``, the largest number
            of passes over the simulated clients.
        restarts: Number of starting points, at least 1; the result is the restart with the lowest
            matching cost.
        keep: Iterate to return: ``best`` by objective and priors, or ``last``. On a rugged
            objective the lowest value occurs by chance, and a schedule that falls to 0 converges
            to better images.
        patience: Stop once the matching cost fell by less than a thousandth over this many
            iterations; 0 never stops early.
        tunes: Choose settings on surrogate victims where there are any, or train on them; these
            are then the starting point.
        source: Reference for the settings.

    Raises:
        ValueError: If a number is out of range or a name is unknown.
    """

    method: str | Method = "optimise"
    parametrisation: str | ParametrisationFactory = "pixels"
    objective: str | ObjectiveFactory = "cosine"
    mask: str | Mask | None = None
    local_steps: Literal["unroll", "gradient", "surrogate"] = "unroll"
    match: float = 1.0
    tv: float = 1e-4
    tv_isotropic: bool = False
    tv_opponents: bool = False
    tv_start: float = 1.0
    norm: float = 0.0
    statistics: float = 0.0
    features: float = 0.0
    priors: tuple[tuple[str | Prior, float], ...] = ()
    group: float = 0.0
    label_rule: str | LabelRule = "auto"
    optimiser: Literal["adam", "l-bfgs"] = "adam"
    sign: Literal["hard", "soft", "none"] = "hard"
    smoothing: float = 0.0
    chroma: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str | Schedule = "step"
    warmup: int = 0
    langevin: float = 0.0
    lr: float = 0.1
    boxed: bool = True
    initialisation: str | Initialisation = "normal"
    iterations: int = 4_800
    restarts: int = 1
    keep: Literal["best", "last"] = "best"
    patience: int = 0
    tunes: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.restarts < 1 or self.lr <= 0 or self.match <= 0:
            raise ValueError("iterations and restarts must be at least 1, and lr and match above 0")
        weights = (self.tv, self.norm, self.statistics, self.features, self.group, self.langevin)
        further = [weight for _, weight in self.priors]
        if min(*weights, *further) < 0 or min(self.warmup, self.patience, self.smoothing) < 0:
            raise ValueError(
                "weights of priors, langevin, smoothing, warmup and patience must be at least 0"
            )
        if self.tv_start < 1:
            raise ValueError(f"tv_start must be at least 1, not {self.tv_start}")
        if not 0 < self.chroma <= 1:
            raise ValueError(f"chroma must be in (0, 1], not {self.chroma}")
        METHODS.check(self.method)
        PARAMETRISATIONS.check(self.parametrisation)
        OBJECTIVES.check(self.objective)
        for prior, _ in self.priors:
            PRIORS.check(prior)
        MASKS.check(self.mask)
        SCHEDULES.check(self.schedule)
        INITIALISATIONS.check(self.initialisation)
        if self.label_rule != JOINT:
            LABEL_RULES.check(self.label_rule)
        for what, name, known in (
            ("optimiser", self.optimiser, ("adam", "l-bfgs")),
            ("sign", self.sign, ("hard", "soft", "none")),
            ("local_steps", self.local_steps, ("unroll", "gradient", "surrogate")),
        ):
            if name not in known:
                raise ValueError(f"{what} is none of {', '.join(known)}: {name}")
        of_pixels = self.sign != "none" or self.smoothing or self.chroma < 1 or self.langevin
        if self.parametrisation != "pixels" and (self.optimiser != "adam" or of_pixels):
            raise ValueError(
                "l-bfgs and changes of the gradient of pixels (sign, smoothing, chroma, langevin) "
                'need parametrisation = "pixels"'
            )
        if self.label_rule == JOINT and self.features:
            raise ValueError("the prior on features needs labels, so they cannot be joint as well")

    @property
    def most_images(self) -> int:
        """Largest number of images of an update that the method is run on."""
        return MOST_UNMIXED if self.method == "cocktail-party" else MOST_IMAGES

    @property
    def weighted_priors(self) -> tuple[tuple[Prior, float], ...]:
        """Priors with a weight above 0: built-in ones in the order of ``PRIORS``, then others."""
        builtin = ((name, float(getattr(self, field))) for name, field in PRIOR_FIELDS.items())
        own = tuple((PRIORS[name], weight) for name, weight in builtin if weight)
        return own + tuple(
            (PRIORS.resolve(prior), weight) for prior, weight in self.priors if weight
        )


INVERTING_GRADIENTS = AttackSettings(
    source="Geiping et al. 2020 (arXiv 2003.14053): library default of 4,800 iterations, "
    "total variation 1e-4 as on its command line"
)

FAST = AttackSettings(
    tv=1e-4,
    tv_opponents=True,
    sign="none",
    lr=1.0,
    betas=(0.8, 0.99),
    schedule="cosine",
    iterations=300,
    keep="last",
    source="this project: the same objective in a fraction of the iterations, by large steps "
    "down all of the gradient and a smooth mixture of colours (python -m benchmarks tuning)",
)

DEEP_DECODER = replace(
    FAST,
    parametrisation="deep-decoder",
    tv=0.1,
    lr=0.01,
    betas=(0.9, 0.999),
    warmup=30,
    source="this project: an untrained generator as prior, as in CI-Net (Zhang et al., ICCV 2023); "
    "here the deep decoder of Heckel and Hand 2019 (arXiv 1810.03982)",
)

DLG = AttackSettings(
    objective="l2",
    tv=0.0,
    label_rule=JOINT,
    optimiser="l-bfgs",
    lr=1.0,
    boxed=False,
    iterations=300,
    source="Zhu et al. 2019 (arXiv 1906.08935) and its public code: squared error, L-BFGS, "
    "soft labels optimised with the images",
)

IDLG = AttackSettings(
    objective="l2",
    tv=0.0,
    label_rule="idlg",
    optimiser="l-bfgs",
    lr=1.0,
    boxed=False,
    iterations=300,
    source="Zhao et al. 2020 (arXiv 2001.02610): DLG with the label read off the last layer",
)

SEE_THROUGH_GRADIENTS = AttackSettings(
    objective="l2",
    match=5e-5,
    tv=1e-4,
    norm=5e-7,
    statistics=0.1,
    group=0.01,
    label_rule="yin",
    sign="none",
    schedule="cosine",
    warmup=50,
    langevin=0.01,
    iterations=20_000,
    restarts=4,
    source="Yin et al. 2021 (arXiv 2104.07586), weights as in breaching's configuration, whose "
    "squares carry a half; the group of four is registered by shifts of whole pixels",
)

MODERN = AttackSettings(
    tv=0.1,
    tv_isotropic=True,
    tv_opponents=True,
    features=0.1,
    sign="soft",
    schedule="cosine",
    warmup=50,
    initialisation="pattern",
    iterations=24_000,
    source="breaching's configuration of that name; its total variation is meant for images "
    "of 224 pixels and far too strong for small ones",
)

FEDAVG = AttackSettings(
    tv=1e-3,
    iterations=24_000,
    source="Geiping et al. 2020, section 6, with total variation 1e-3 as in breaching's "
    "notebook for four CIFAR-10 images and four local steps",
)

ANALYTIC = AttackSettings(
    method="analytic",
    source="Geiping et al. 2020, on fully connected layers: the input of a biased first one, "
    "exact for one image; for batches Dimitrov et al. 2024, as in spear, with 8 rounds",
)

SPEAR = AttackSettings(
    method="spear",
    iterations=64,
    source="Dimitrov et al., NeurIPS 2024 (arXiv 2403.03945): all inputs of a biased first layer "
    "with a ReLU after it, exact; here by searches for sparse directions (arXiv 1412.4659)",
)

COCKTAIL_PARTY = AttackSettings(
    method="cocktail-party",
    tv=0.3,
    iterations=500,
    source="Kariyappa et al. 2023 (arXiv 2209.05578): independent components of a fully connected "
    "layer's gradient, here of the differences of pixels or features, and feature inversion",
)

LEARNED = AttackSettings(
    method="learned",
    iterations=60,
    tunes=True,
    source="Wu et al. 2023 (arXiv 2210.10880): a network that maps updates to images, trained on "
    "simulated clients with the client's own training and defenses; updates are hashed to 4,096 "
    "numbers, beside the input of the last layer, and hidden layers are narrower (512 units)",
)

AUTO = replace(
    FAST,
    tunes=True,
    source="this project: chosen by successive halving on surrogate victims, which are made of "
    "public images with the client's own training and defenses; these settings where there are "
    "no surrogates",
)

PRESETS: dict[str, AttackSettings] = {
    "auto": AUTO,
    "inverting-gradients": INVERTING_GRADIENTS,
    "fast": FAST,
    "deep-decoder": DEEP_DECODER,
    "dlg": DLG,
    "idlg": IDLG,
    "see-through-gradients": SEE_THROUGH_GRADIENTS,
    "modern": MODERN,
    "fedavg": FEDAVG,
    "analytic": ANALYTIC,
    "spear": SPEAR,
    "cocktail-party": COCKTAIL_PARTY,
    "learned": LEARNED,
}
"""Built-in presets by name; the constant of each is its name in capitals with underscores."""
