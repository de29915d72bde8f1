"""Whether a run again gives the same numbers, and where the noise of defenses comes from."""

from collections.abc import Iterable

from fedlab.scenario.scenario import Scenario

SYSTEM = "that of dp-sgd from the operating system (secure_noise)"


def noise_source(scenarios: Iterable[Scenario]) -> str:
    """Where the noise of defenses comes from, in a few words.

    Args:
        scenarios: One, or those of all runs of a comparison.
    """
    seeded = "seeded: right for a simulation, and wrong for a deployment"
    return f"{SYSTEM}, other noise {seeded}" if any(map(_secure, scenarios)) else seeded


def repeatability(scenarios: Iterable[Scenario]) -> str:
    """Whether and how far another run gives the same result, as one sentence or two.

    It depends on noise that is never drawn again, on attacks that stop by the clock, and on rounds
    that a kill cut off: their replies were sent, so they draw new noise when they are run again.

    Args:
        scenarios: One, or those of all runs of a comparison.
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
    """Whether clients draw noise that counts their participations."""
    return any(entry.noise_source != "none" for entry in scenario.defenses)
