"""Picture of measured identification below the certified ceiling."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedlab.report.figures.colours import FAINT, INK, defense_colour
from fedlab.report.figures.sheet import Options, Picture, new_picture, styled

_WIDTH, _HEIGHT = 9.0, 6.2
_MARKERS = {"informed adversary": "o", "reconstruction": "s"}


@dataclass(frozen=True)
class Share:
    """How often an attacker identified images.

    Attributes:
        attacker: Name of the attacker.
        noise: Noise multiplier of DP-SGD.
        pool: Number of images in the pool.
        share: Share of the images that it identified, in [0, 1].
        low: Lower end of its confidence interval.
        high: Upper end.
        images: Number of images.
        ceiling: Largest share that any attack can reach.
    """

    attacker: str
    noise: float
    pool: int
    share: float
    low: float
    high: float
    images: int
    ceiling: float


@dataclass(frozen=True)
class Arm:
    """A plot: the shares for one kind of client and one pool, at several noise multipliers."""

    name: str
    shares: Sequence[Share]


@styled()
def ceilings_picture(arms: Sequence[Arm]) -> Picture:
    """Draw each arm: the zone above the ceiling is shaded, since no attack reaches it."""
    note = "Bars: 99 % confidence intervals over clients. The shaded zone is out of reach."
    title = "How often is an image identified under DP-SGD, and how often can it be?"
    picture = new_picture(_WIDTH, _HEIGHT, title=title, notes=[note])
    plots = picture.subplots(2, -(-len(arms) // 2), squeeze=False).ravel()
    for axes, arm in zip(plots, arms, strict=False):
        pool = arm.shares[0].pool
        limits = {share.noise: share.ceiling for share in arm.shares}
        noises, line = list(limits), list(limits.values())
        axes.fill_between(noises, line, 1.04, color=FAINT, alpha=0.18, linewidth=0)
        axes.plot(noises, line, color=INK, linewidth=1.5, label="certified ceiling")
        axes.axhline(1 / pool, color=FAINT, linewidth=1, linestyle=":", label="chance")
        for attacker in dict.fromkeys(share.attacker for share in arm.shares):
            own = [share for share in arm.shares if share.attacker == attacker]
            style: Options = {"color": defense_colour("dp-sgd"), "capsize": 2, "linewidth": 1}
            axes.errorbar(
                [each.noise for each in own],
                [each.share for each in own],
                yerr=[
                    [each.share - each.low for each in own],
                    [each.high - each.share for each in own],
                ],
                marker=_MARKERS[attacker],
                markerfacecolor="white" if attacker == "reconstruction" else None,
                markersize=5,
                label=f"{attacker} (n = {own[0].images})",
                **style,
            )
        axes.set(xscale="log", ylim=(0, 1.04), xticks=noises, title=f"{arm.name}, pool of {pool}")
        axes.set_xticks(noises, [f"{noise:g}" for noise in noises])
        axes.minorticks_off()
        axes.set(xlabel="noise multiplier z", ylabel="share identified")
        axes.legend(loc="upper right", frameon=True, framealpha=0.85, edgecolor="none")
    return picture
