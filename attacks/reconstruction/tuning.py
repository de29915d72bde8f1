"""An attack that chooses its own settings on surrogate victims, never on what is scored.

Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943) in two rounds: the candidates run
half of the iterations on one victim, and the best run all iterations on several. With fewer
iterations a strong prior always looks best, although a weak one ends far better.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.candidates import relatives
from attacks.reconstruction.components import name_of
from attacks.reconstruction.inversion import invert
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import EarlierUpdate

FIRST = 0.25
"""Share of the budget for the first round, where most candidates fall out on one victim."""

KEPT = 3
"""Number of candidates that reach the second round, before relatives of the best."""

TIE = 0.5
"""Difference of quality, in dB, that a few victims do not prove. Of candidates that are as close to
the best in the last round, the most promising one is chosen."""


A = TypeVar("A")
B = TypeVar("B")


class Share(Protocol):
    """Calls a function with each item and returns the results in order, perhaps in parallel."""

    def __call__(self, call: Callable[[A], B], items: Sequence[A], /) -> list[B]:
        """Call the function with each item."""


def in_turn(call: Callable[[A], B], items: Sequence[A], /) -> list[B]:
    """Call a function with one item after another."""
    return [call(item) for item in items]


@dataclass(frozen=True)
class SurrogateVictim:
    """A client that the attacker simulated on public images, whose truth it therefore knows.

    Attributes:
        global_state: Parameters and buffers that the client started from, by name.
        payload: Gradient or weights that the simulated client sent.
        knowledge: Assumptions of the attacker about it, as about a real client.
        quality: Function from reconstructed images ``[n, channels, height, width]`` in [0, 1] to a
            number that is higher for better ones, such as the mean PSNR in dB.
        earlier: Updates of the same images in earlier rounds.
    """

    global_state: Mapping[str, Tensor] = field(repr=False)
    payload: Payload
    knowledge: Knowledge
    quality: Callable[[Tensor], float] = field(repr=False)
    earlier: Sequence[EarlierUpdate] = ()


@dataclass(frozen=True)
class Trial:
    """One candidate on some surrogate victims.

    Attributes:
        attack: The settings, with the iterations that were run.
        victims: Number of victims.
        quality: Mean quality over the victims; minus infinity if the attack cannot work on one.
    """

    attack: AttackSettings
    victims: int
    quality: float


@dataclass(frozen=True)
class Tuning:
    """The settings that an attack chose, and what the choice cost.

    Attributes:
        attack: The chosen settings.
        trials: All trials in order.
        iterations: Number of iterations of all trials together.
        seconds: Wall time of all trials in seconds.
    """

    attack: AttackSettings
    trials: tuple[Trial, ...] = field(default=(), repr=False)
    iterations: int = 0
    seconds: float = 0.0

    @property
    def choice(self) -> str:
        """The chosen settings in a few words."""
        attack = self.attack
        if attack.method != "optimise":
            return name_of(attack.method)
        moved = [name_of(attack.parametrisation)] if attack.parametrisation != "pixels" else []
        parts = [*moved, name_of(attack.objective), f"tv {attack.tv:.2g}"]
        parts += [f"mask {name_of(attack.mask)}"] if attack.mask else []
        step = "l-bfgs" if attack.optimiser == "l-bfgs" else f"{attack.sign} sign, lr {attack.lr:g}"
        parts += [step.replace("none sign", "no sign")]
        parts += ["smoothed"] if attack.smoothing else []
        return ", ".join(parts)


def tune(
    model: nn.Module,
    victims: Sequence[SurrogateVictim],
    candidates: Sequence[AttackSettings],
    *,
    budget: int,
    seed: int,
    seconds: float | None = None,
    vary_tv: bool = True,
    share: Share = in_turn,
) -> Tuning:
    """Choose settings by successive halving on surrogate victims.

    Every trial starts from the same random numbers, so the choice is the same whenever the budget
    is in iterations.

    Args:
        model: The architecture, on the device to compute on; it is not changed.
        victims: Surrogate victims, at least one.
        candidates: Settings to choose from, the most promising first; with a small budget only the
            first are tried.
        budget: Number of iterations of all trials together, about.
        seed: Seed of every trial.
        seconds: Wall time of all trials in seconds, in place of ``budget``; the choice then depends
            on the machine's speed.
        vary_tv: In the last round also try other weights of the total variation around the best
            one; not where the user set the weight.
        share: Runs the trials, which are independent of each other; in turn by default.

    Raises:
        ValueError: If there is no victim or no candidate.
    """
    if not victims or not candidates:
        raise ValueError("tuning needs at least one surrogate victim and one candidate")
    if len(candidates) == 1:
        return Tuning(candidates[0])
    started = time.perf_counter()
    final = candidates[0].iterations
    half = max(1, final // 2)
    if seconds is not None:
        _quality(model, victims[0], _part(candidates[0], 2), seed)
        budget = int(half * (seconds / (time.perf_counter() - started) - 1))
    room = max(1, int(FIRST * budget) // half)
    run = partial(_trials, model, seed=seed, share=share)
    trials = run(victims[:1], [_part(one, 2) for one in candidates[:room]])
    ranked = _ranked(candidates, trials)
    left = budget - len(trials) * half
    judges = victims[: max(1, left // (2 * final))]
    room = left // (len(judges) * final)
    if room > 1 and len(ranked) > 1:
        near = relatives(ranked[0], vary_tv=vary_tv)
        finalists = list(dict.fromkeys((*ranked[:KEPT], *near)))[:room]
        again = run(judges, finalists)
        trials += again
        best = max(trial.quality for trial in again)
        close = [one for one, it in zip(finalists, again, strict=True) if it.quality >= best - TIE]
        ranked = [one for one in (*candidates, *near) if one in close]
    return Tuning(
        attack=ranked[0],
        trials=tuple(trials),
        iterations=sum(trial.attack.iterations * trial.victims for trial in trials),
        seconds=time.perf_counter() - started,
    )


def _ranked(tried: Sequence[AttackSettings], trials: Sequence[Trial]) -> list[AttackSettings]:
    """The settings of as many as there are trials, the best first."""
    pairs = zip(tried, trials, strict=False)
    return [one for one, _ in sorted(pairs, key=lambda pair: pair[1].quality, reverse=True)]


def _part(attack: AttackSettings, parts: int) -> AttackSettings:
    """The settings with one of several equal parts of the iterations."""
    return replace(attack, iterations=max(1, attack.iterations // parts))


def _trials(
    model: nn.Module,
    victims: Sequence[SurrogateVictim],
    attacks: Sequence[AttackSettings],
    *,
    seed: int,
    share: Share,
) -> list[Trial]:
    """Run each of some candidates on each of some victims."""
    pairs = [(attack, victim) for attack in attacks for victim in victims]
    found = iter(share(partial(_on_pair, model, seed), pairs))
    return [
        Trial(attack, len(victims), sum(next(found) for _ in victims) / len(victims))
        for attack in attacks
    ]


def _on_pair(model: nn.Module, seed: int, pair: tuple[AttackSettings, SurrogateVictim]) -> float:
    attack, victim = pair
    return _quality(model, victim, attack, seed)


def _quality(model: nn.Module, victim: SurrogateVictim, attack: AttackSettings, seed: int) -> float:
    """Quality of what a candidate finds on a victim; minus infinity if it cannot work on it."""
    device = next(model.parameters()).device
    try:
        # Layers such as Dropout draw from the global generators, also in the attacker's network.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            found = invert(
                model,
                victim.global_state,
                victim.payload,
                victim.knowledge,
                attack,
                generator=torch.Generator().manual_seed(seed),
                earlier=victim.earlier,
            )
    except ValueError:  # such as the analytic method on a convolution
        return -math.inf
    quality = victim.quality(found.images)
    return quality if math.isfinite(quality) else -math.inf
