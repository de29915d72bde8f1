"""Settings among which a self-tuning attack chooses, the most promising first.

No fixed weight of the total variation suits two networks, so the candidates cover it on a coarse
grid for four forms of the gradient step and an untrained generator. Other shipped attacks follow
where the budget allows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import chain, zip_longest
from typing import Any

from torch import Tensor

from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.defended import adapted, noise_deviation
from attacks.reconstruction.presets import (
    ANALYTIC,
    AUTO,
    DEEP_DECODER,
    DLG,
    INVERTING_GRADIENTS,
    MODERN,
    AttackSettings,
)

STEPS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "soft": {"sign": "soft", "lr": 0.5},
    "signed": {"sign": "hard", "lr": 0.3, "betas": (0.9, 0.999), "schedule": "linear"},
    "smooth": {"smoothing": 1.0, "chroma": 0.25, "lr": 0.3, "tv_start": 15.0},
}
"""Forms of the gradient step, as changes of ``fast``."""

DECODER: Mapping[str, Any] = {
    name: getattr(DEEP_DECODER, name) for name in ("parametrisation", "lr", "betas", "warmup")
}
"""The search for weights of a generator, as changes of ``fast``."""

GRID = (
    ("smooth", 0.03),
    ("plain", 1e-4),
    ("smooth", 0.1),
    ("smooth", 0.01),
    ("smooth", 0.3),
    ("soft", 0.5),
    ("signed", 1e-3),
    ("plain", 0.1),
    ("plain", 1e-3),
    ("smooth", 1e-3),
    ("plain", 0.5),
    ("plain", 0.01),
    ("soft", 0.1),
    ("signed", 0.1),
    ("plain", 2.0),
    ("signed", 0.01),
    ("signed", 0.5),
    ("decoder", 0.1),
)
"""Form of the step and weight of the total variation of each candidate. Of those that do equally
well on surrogates, smoothed ones lose least on other victims, and so come before the soft one. The
generator is meant for noise, under which it moves to the second place."""

AROUND = 2.5
"""Factor by which the weight of the total variation is varied around the best one so far."""


def candidates(
    base: AttackSettings,
    payload: Payload,
    knowledge: Knowledge,
    *,
    sent: Mapping[str, Tensor],
    fixed: Mapping[str, Any],
    adapt: bool = True,
    rounds: int = 1,
) -> tuple[AttackSettings, ...]:
    """Settings to try on a payload, each once.

    Under noise each candidate is tried as it is and adapted, because either may be the stronger: an
    adapted attack found less than a plain one under little noise. Otherwise the adapted ones come
    first. Settings that contradict what the user has set are left out. Label rules are not
    compared, because the labels of surrogate victims are known.

    Args:
        base: Settings from which the candidates differ; its iterations hold for all of them.
        payload: The captured payload, or that of a surrogate victim.
        knowledge: Assumptions of the attacker, including the defenses that are on.
        sent: The global state by name.
        fixed: Fields that the user has set, which no candidate changes; iterations are those of
            ``base``.
        adapt: Try the adapted settings as well.
        rounds: Number of rounds that are attacked jointly.
    """
    chosen = [one for plain in _plain(base) if (one := _combined(plain, fixed))]
    if adapt and noise_deviation(payload, knowledge):
        generators = [one for one in chosen if one.parametrisation != "pixels"]
        chosen = [*chosen[:1], *generators, *chosen[1:]]
    first: list[list[AttackSettings]] = []
    later: list[AttackSettings] = []
    for one in chosen:
        changed = one
        if adapt:
            changed = adapted(one, payload, knowledge, sent=sent, rounds=rounds)
        unadapted = replace(one, label_rule=changed.label_rule)
        group = [changed]
        if changed.objective == "l2" != one.objective:
            weights = [changed.tv * factor for factor in (0.1, 10.0)]
            group += [unadapted, *(replace(changed, tv=tv) for tv in weights)]
        else:
            later.append(unadapted)
        first.append([replace(each, **_explicit(fixed)) for each in group])
    # The two most promising forms take turns, so that a small budget tries both.
    turns = chain.from_iterable(zip_longest(*first[:2]))
    return tuple(dict.fromkeys(one for one in chain(turns, *first[2:], later) if one is not None))


def _combined(plain: AttackSettings, fixed: Mapping[str, Any]) -> AttackSettings | None:
    """A candidate with what the user has set; ``None`` if the two contradict each other."""
    if plain.parametrisation != "pixels" and "lr" in fixed:  # a step size of pixels
        return None
    try:
        return replace(plain, **fixed)
    except ValueError:  # such as the sign of a gradient of pixels with a generator
        return None


def fixed_fields(attack: AttackSettings) -> dict[str, Any]:
    """Fields that a user has set: those that differ from the preset ``auto``, but iterations."""
    return {
        each.name: getattr(attack, each.name)
        for each in fields(attack)
        if each.name not in ("iterations", "tunes", "source")
        and getattr(attack, each.name) != getattr(AUTO, each.name)
    }


def relatives(attack: AttackSettings, *, vary_tv: bool) -> tuple[AttackSettings, ...]:
    """Settings close to others: the other forms of the step, and other weights of the prior.

    Args:
        attack: Settings that ``candidates`` made.
        vary_tv: Also vary the weight of the total variation.
    """
    if attack.method != "optimise" or attack.optimiser != "adam":
        return ()
    plain = {name: getattr(AUTO, name) for changes in STEPS.values() for name in changes}
    steps = STEPS.values() if attack.parametrisation == "pixels" else ()
    forms = [replace(attack, **{**plain, **changes}) for changes in steps]
    weights = (
        [replace(attack, tv=attack.tv * factor) for factor in (1 / AROUND, AROUND)]
        if vary_tv and attack.tv
        else []
    )
    return tuple(one for pair in zip_longest(weights, forms) for one in pair if one is not None)


def _plain(base: AttackSettings) -> Iterator[AttackSettings]:
    base = replace(base, tunes=False)
    for step, tv in GRID:
        yield replace(base, tv=tv, **(DECODER if step == "decoder" else STEPS[step]))
    shared: dict[str, Any] = {"iterations": base.iterations, "label_rule": base.label_rule}
    yield replace(base, objective="layer-cosine", tv=0.01)
    yield replace(INVERTING_GRADIENTS, **shared)
    yield replace(MODERN, features=0.0, **shared)
    yield replace(ANALYTIC, **shared)
    # An iteration of L-BFGS evaluates the objective up to twenty times.
    yield replace(DLG, iterations=max(1, base.iterations // 20), label_rule=base.label_rule)


def _explicit(fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What the user fixed of the fields that the adaptation changes."""
    return {name: fixed[name] for name in ("tv", "objective", "mask") if name in fixed}
