"""What the results of a page do and do not mean."""

from collections.abc import Sequence

from fedlab.metrics.verdict import MARGIN, SUCCEEDS
from fedlab.report.page.places import source_of
from fedlab.scenario.reproducibility import repeatability
from fedlab.scenario.scenario import Scenario


def meaning(
    scenario: Scenario, *, seeds: int | None = None, arms: Sequence[Scenario] = ()
) -> list[str]:
    """Sentences to read the verdicts with.

    Args:
        scenario: Of the run, or what all runs of the comparison share.
        seeds: Of a comparison.
        arms: Of a comparison, what was run.
    """
    if seeds is None:
        runs = ["All of it is one run with one seed: how much it would vary is not known."]
    else:
        runs = [
            f"Medians are over {seeds} seeds, and so few give a range rather than an error."
            if seeds > 1
            else "Every run has the same one seed: how much it would vary is not known.",
            "Times are those of runs that may have shared the machine's cores with each other: "
            "good for orders of magnitude, and no benchmark.",
        ]
    return [
        f"“Leaks” is a stated rule: the rebuilt image is at least {MARGIN:g} dB nearer to the true "
        "one than the best guess that sees no update (chance: mid-grey, the mean test image of its "
        "class, or the client's nearest other image), and among the client's images of its class "
        "the true one is the nearest to it.",
        "“Not shown” says that these attacks, with this budget, did not get there. It never says "
        "that nothing can: a stronger attack, more rounds or side knowledge may.",
        "“Diagnostic” marks an attack that was made easier than a real one, for the reasons given: "
        "it shows what an update holds. “Realistic” marks one that was not.",
        f"A poisoning “succeeds” if after the last round it reaches at least {SUCCEEDS:g} of what "
        "chance leaves open. Chance is how often the same network takes clean images for what the "
        "attack wants: of a trigger the same images without it, of one target image all of other "
        "classes, of flipped labels those of classes that are not flipped to that one. Without "
        "such images it is not known, and the rate itself is judged. Some poisonings aim at no "
        "class and show in the accuracy alone.",
        "An ε holds for one unit, one notion of neighbours and one δ, named beside it, and is "
        "never added to another. The total is infinite once a client took part without the "
        "mechanism; the ε of its protected rounds stands beside it. “Vacuous” is a "
        "bound that says nothing.",
        "Accuracy and attack success are measured on test images that no client holds.",
        *runs,
        f"It is about these images ({source_of(scenario)}), this network ({scenario.model.name}) "
        "and this training. Others leak more or less.",
        repeatability(arms or [scenario]),
    ]
