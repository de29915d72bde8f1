"""Sentences on whether a second run gives the same numbers, and on the source of noise."""

from collections.abc import Iterable

from fedlab.scenario.scenario import Scenario

SYSTEM = "that of dp-sgd from the operating system (secure_noise)"


def noise_source(scenarios: Iterable[Scenario]) -> str:
    """State the source of the defenses' noise in a few words.

    Args:
        scenarios: The scenario of a run, or those of all runs of a comparison.
    """
    seeded = "seeded: right for a simulation, and wrong for a deployment"
    return f"{SYSTEM}, other noise {seeded}" if any(map(_secure, scenarios)) else seeded


def repeatability(scenarios: Iterable[Scenario]) -> str:
    """State how far a second run gives the same result, in one or two sentences.

    Results differ with noise of the operating system, with attacks that have a time budget, and
    with interrupted rounds: their updates were sent, so a second attempt draws new noise.

    Args:
        scenarios: The scenario of a run, or those of all runs of a comparison.
    """
    scenarios = list(scenarios)
    if any(map(_secure, scenarios)):
        return (
            f"Another run gives other numbers, since noise is not all seeded, but {SYSTEM}: as a "
            "deployment needs it."
        )
    budgets = any(attack.seconds for each in scenarios for attack in each.reconstructions)
    noisy = any(_noisy(each) for each in scenarios)
    parts = ["On the same kind of device the result of another run is the same, bit for bit"]
    if budgets:
        parts.append("but for what attacks with a time budget (seconds) rebuild")
    if noisy:
        parts.append("unless a round was cut off by a kill: run again, it draws new noise under DP")
    sentence = f"{', '.join(parts)}."
    if any(each.defenses or each.server.central_dp for each in scenarios):
        sentence += f" Noise of defenses is {noise_source(scenarios)}."
    return sentence


def _secure(scenario: Scenario) -> bool:
    return any(entry.noise_source == "system" for entry in scenario.defenses)


def _noisy(scenario: Scenario) -> bool:
    """True if clients draw noise anew in each participation."""
    return any(entry.noise_source != "none" for entry in scenario.defenses)
