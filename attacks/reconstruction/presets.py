"""Attacks by name, each with the settings that its paper or public code used."""

from dataclasses import dataclass
from typing import Literal

from attacks.reconstruction.initialisation import STARTS
from attacks.reconstruction.labels import LABEL_RULES
from attacks.reconstruction.objectives import MASKS, OBJECTIVES
from attacks.reconstruction.schedules import SCHEDULES


@dataclass(frozen=True)
class Attack:
    """The settings of a reconstruction.

    Attributes:
        method: ``optimise`` the images, or read them off the first layer (``analytic``), which
            uses none of the settings below.
        objective: How payloads are compared, a key of ``OBJECTIVES``.
        mask: Which entries of the payload are compared, a key of ``MASKS``; all unless given.
        match: Weight of the objective beside the priors.
        tv: Weight of the total variation.
        tv_isotropic: Whether that is the isotropic form.
        tv_opponents: Whether differences between colour channels are smoothed as well.
        norm: Weight of the mean square of the pixels.
        statistics: Weight of the distance to the network's BatchNorm statistics.
        features: Weight of the distance to the features recovered from the last layer.
        group: Weight of the distance of each restart from the registered mean of all.
        labels: How unknown labels are found: a key of ``LABEL_RULES``, or ``joint`` to optimise
            soft labels together with the images.
        optimiser: ``adam`` or ``l-bfgs``; the settings down to ``langevin`` are Adam's.
        sign: What Adam sees of the gradient: its ``hard`` sign, a ``soft`` one that turns linear
            towards the end, or all of it (``none``).
        betas: Of Adam.
        schedule: How the step size falls, a key of ``SCHEDULES``.
        warmup: Iterations over which it first rises.
        langevin: Standard deviation of noise on the gradient, in units of the step size.
        lr: Step size, in normalised pixels.
        boxed: Whether pixels are kept in their range.
        start: The first images, a key of ``STARTS``.
        iterations: Steps of each restart.
        restarts: Starting images; the one with the lowest matching cost wins.
        keep: The ``best`` iterate by objective and priors, or the ``last``: where the objective is
            rugged its lowest value comes by chance, and a schedule that falls to 0 settles better.
        patience: Stop once the matching cost fell by less than a thousandth over so many
            iterations; 0 for never.
        source: Where the settings come from.

    Raises:
        ValueError: If a number is out of range.
    """

    method: Literal["optimise", "analytic"] = "optimise"
    objective: str = "cosine"
    mask: str | None = None
    match: float = 1.0
    tv: float = 1e-4
    tv_isotropic: bool = False
    tv_opponents: bool = False
    norm: float = 0.0
    statistics: float = 0.0
    features: float = 0.0
    group: float = 0.0
    labels: str = "auto"
    optimiser: Literal["adam", "l-bfgs"] = "adam"
    sign: Literal["hard", "soft", "none"] = "hard"
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "step"
    warmup: int = 0
    langevin: float = 0.0
    lr: float = 0.1
    boxed: bool = True
    start: str = "normal"
    iterations: int = 4_800
    restarts: int = 1
    keep: Literal["best", "last"] = "best"
    patience: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.restarts < 1 or self.lr <= 0 or self.match <= 0:
            raise ValueError("iterations and restarts must be at least 1, and lr and match above 0")
        weights = (self.tv, self.norm, self.statistics, self.features, self.group, self.langevin)
        if min(weights) < 0 or min(self.warmup, self.patience) < 0:
            raise ValueError("weights of priors, langevin, warmup and patience must be at least 0")
        for what, name, known in (
            ("objective", self.objective, OBJECTIVES),
            ("mask", self.mask, (None, *MASKS)),
            ("labels", self.labels, ("joint", *LABEL_RULES)),
            ("optimiser", self.optimiser, ("adam", "l-bfgs")),
            ("sign", self.sign, ("hard", "soft", "none")),
            ("schedule", self.schedule, SCHEDULES),
            ("start", self.start, STARTS),
        ):
            if name not in known:
                raise ValueError(f"{what} is none of {', '.join(map(str, known))}: {name}")
        if self.labels == "joint" and self.features:
            raise ValueError("the prior on features needs labels, so they cannot be joint as well")


PRESETS: dict[str, Attack] = {
    "inverting-gradients": Attack(
        source="Geiping et al. 2020 (arXiv 2003.14053): library default of 4,800 iterations, "
        "total variation 1e-4 as on its command line"
    ),
    "fast": Attack(
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
    ),
    "dlg": Attack(
        objective="l2",
        tv=0.0,
        labels="joint",
        optimiser="l-bfgs",
        lr=1.0,
        boxed=False,
        iterations=300,
        source="Zhu et al. 2019 (arXiv 1906.08935) and its public code: squared error, L-BFGS, "
        "soft labels optimised with the images",
    ),
    "idlg": Attack(
        objective="l2",
        tv=0.0,
        labels="idlg",
        optimiser="l-bfgs",
        lr=1.0,
        boxed=False,
        iterations=300,
        source="Zhao et al. 2020 (arXiv 2001.02610): DLG with the label read off the last layer",
    ),
    "see-through-gradients": Attack(
        objective="l2",
        match=5e-5,
        tv=1e-4,
        norm=5e-7,
        statistics=0.1,
        group=0.01,
        labels="yin",
        sign="none",
        schedule="cosine",
        warmup=50,
        langevin=0.01,
        iterations=20_000,
        restarts=4,
        source="Yin et al. 2021 (arXiv 2104.07586), weights as in breaching's configuration, whose "
        "squares carry a half; the group of four is registered by shifts of whole pixels",
    ),
    "modern": Attack(
        tv=0.1,
        tv_isotropic=True,
        tv_opponents=True,
        features=0.1,
        sign="soft",
        schedule="cosine",
        warmup=50,
        start="pattern",
        iterations=24_000,
        source="breaching's configuration of that name; its total variation is meant for images "
        "of 224 pixels and far too strong for small ones",
    ),
    "fedavg": Attack(
        tv=1e-3,
        iterations=24_000,
        source="Geiping et al. 2020, section 6, with total variation 1e-3 as in breaching's "
        "notebook for four CIFAR-10 images and four local steps",
    ),
    "analytic": Attack(
        method="analytic",
        source="Geiping et al. 2020, on fully connected layers: the input of a biased first one, "
        "exact for one image and often for some of a batch",
    ),
}
