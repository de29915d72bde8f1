"""The choice of an attack's settings on surrogate clients, within a budget."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from attacks.payload import Payload
from attacks.reconstruction import AttackSettings
from attacks.reconstruction.candidates import candidates, fixed_fields
from attacks.reconstruction.presets import AUTO
from attacks.reconstruction.tuning import Share, SurrogateVictim, Tuning, in_turn, tune
from fedlab.evaluation.attack_progress import tuning_progress
from fedlab.metrics.images import match, psnr
from fedlab.scenario.tables import Reconstruct

BUDGET = 14
"""Iterations of the tuning for each iteration of the final attack, unless the scenario says more or
less."""

ENOUGH = 40.0
"""PSNR in dB above which a better image does not count as better: nobody sees the difference."""


def tuned(
    model: nn.Module,
    victims: Sequence[SurrogateVictim],
    payload: Payload,
    attack: AttackSettings,
    entry: Reconstruct,
    *,
    seed: int,
    share: Share = in_turn,
) -> Tuning:
    """Choose the settings of an attack on surrogate victims, within the budget of its entry.

    No trial takes more iterations than the preset ``auto``, because an attack with a time budget
    may have any number of them. It spends as much time on the choice as on the attack, unless the
    entry gives another budget.

    Args:
        model: The network, on the device to compute on.
        victims: Surrogate victims, at least one.
        payload: The captured payload, in which a defense such as pruning may be visible.
        attack: Settings of the preset with those that the user replaced.
        entry: Budget of the tuning, and whether adapted settings are tried.
        seed: Seed of every trial.
        share: Runs the trials, which are independent of each other.
    """
    short = replace(attack, iterations=min(attack.iterations, AUTO.iterations))
    fixed = fixed_fields(attack)
    first = victims[0]
    budget = entry.tuning_iterations or BUDGET * short.iterations
    with tuning_progress(budget, share) as telling:
        found = tune(
            model,
            victims,
            candidates(
                short,
                payload,
                first.knowledge,
                sent=first.global_state,
                fixed=fixed,
                adapt=entry.adapt,
                rounds=1 + len(first.earlier),
            ),
            budget=budget,
            seconds=entry.tuning_seconds or (None if entry.tuning_iterations else entry.seconds),
            seed=seed,
            vary_tv="tv" not in fixed,
            share=telling,
        )
    # An iteration of L-BFGS counts for many, so such a candidate keeps its smaller number.
    iterations = found.attack.iterations * attack.iterations // short.iterations
    return replace(found, attack=replace(found.attack, iterations=iterations))


def quality_of(inputs: Tensor) -> Callable[[Tensor], float]:
    """Function from reconstructed images to the mean PSNR in dB of the true ones.

    Args:
        inputs: float ``[n, channels, height, width]``, inputs of the network, pixels in [0, 1].
    """

    def measured(images: Tensor) -> float:
        guesses = images.to(inputs.device)
        places, chosen = match(inputs, guesses)
        found = psnr(inputs[places], guesses[chosen])
        return float(found.clamp(max=ENOUGH).mean())

    return measured
