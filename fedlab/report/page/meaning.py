"""What the results of a page do and do not mean."""

from fedlab.evaluation.verdict import MARGIN
from fedlab.report.verdicts import SUCCEEDS
from fedlab.scenario import Scenario

SEEDED = (
    "Noise of defenses is seeded, so that a run can be repeated bit for bit: right for a "
    "simulation, and wrong for a deployment."
)


def meaning(scenario: Scenario, *, seeds: int = 1) -> list[str]:
    """Sentences to read the verdicts with."""
    runs = (
        "All of it is one run with one seed: how much it would vary is not known."
        if seeds == 1
        else f"Medians are over {seeds} seeds, and so few give a range rather than an error."
    )
    return [
        f"“Leaks” is a stated rule: the rebuilt image is at least {MARGIN:g} dB nearer to the true "
        "one than the best guess that sees no update (chance: mid-grey, the mean test image of its "
        "class, or the client's nearest other image), and among the client's images of its class "
        "the true one is the nearest to it.",
        "“Not shown” says that these attacks, with this budget, did not get there. It never says "
        "that nothing can: a stronger attack, more rounds or side knowledge may.",
        "“Diagnostic” marks an attack that was made easier than a real one, for the reasons given: "
        "it shows what an update holds. “Realistic” marks one that was not.",
        f"A poisoning “succeeds” if its attack success rate after the last round is at least "
        f"{SUCCEEDS:g}. Read it beside the accuracy: a network that has learned nothing and "
        "answers the attacker's class to every image has a rate of 1. Some poisonings aim at no "
        "class and show in the accuracy alone.",
        "An ε holds for one unit, one notion of neighbours and one δ, named beside it, and is "
        "never added to another. The total is infinite once a client took part without the "
        "mechanism; the ε of its protected rounds stands beside it. “Vacuous” is a "
        "bound that says nothing.",
        "Accuracy and attack success are measured on test images that no client holds.",
        runs,
        f"It is about these images ({scenario.data.source}), this network ({scenario.model.name}) "
        "and this training. Others leak more or less.",
        SEEDED,
    ]
