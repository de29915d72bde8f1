"""The canaries of an audit, and the ones that the audited client trains on.

Only the Referee knows the coins that decide it.
"""

from torch import Tensor

from attacks.privacy_audit.canaries import Canaries, make_canaries, toss
from fedlab.core.seeds import generator
from fedlab.data.images import ImageData
from fedlab.scenario.scenario import Scenario


def canaries_of(scenario: Scenario, data: ImageData) -> tuple[Canaries, Tensor]:
    """Make all canaries of a scenario's audit.

    Returns:
        The canaries, and one coin for each, bool ``[n]``: true if the client trains on it.

    Raises:
        ValueError: If the scenario has no audit.
    """
    settings = scenario.audit
    if settings is None:
        raise ValueError("the scenario has no audit")
    canaries = make_canaries(
        settings.canaries,
        shape=data.shape,
        classes=data.num_classes,
        generator=generator(scenario.seed, "canaries"),
    )
    coins = toss(settings.canaries, generator=generator(scenario.seed, "canary coins"))
    return canaries, coins


def planted(scenario: Scenario, data: ImageData) -> dict[int, Canaries]:
    """Return the canaries that the audited client trains on, by its partition id."""
    if scenario.audit is None:
        return {}
    canaries, coins = canaries_of(scenario, data)
    return {scenario.audit.client: Canaries(canaries.images[coins], canaries.labels[coins])}
