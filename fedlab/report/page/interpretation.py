"""What the results on a page mean, and what they do not mean."""

from collections.abc import Sequence

from fedlab.metrics.verdict import CONSISTENT, MARGIN, SUCCEEDS
from fedlab.report.page.local_paths import source_of
from fedlab.scenario.reproducibility import repeatability
from fedlab.scenario.scenario import Scenario


def interpretation(
    scenario: Scenario, *, seeds: int | None = None, arms: Sequence[Scenario] = ()
) -> list[str]:
    """Definitions and limits of the verdicts, a few sentences each.

    Args:
        scenario: The scenario of a run, or what all runs of a comparison share.
        seeds: Number of seeds of a comparison; ``None`` for a run.
        arms: Scenarios of all runs of a comparison.
    """
    runs = ["All results are of one run with one seed, so their variation is unknown."]
    if seeds is not None:
        runs = [
            f"Medians are over {seeds} seeds, which give a range rather than an error estimate."
            if seeds > 1
            else "Every run has the same seed, so the variation of the results is unknown.",
            "Times are of runs that may have shared the machine's cores. They give orders of "
            "magnitude and are no benchmark.",
        ]
    return [
        f"“Leaks” means that the reconstruction is at least {MARGIN:g} dB closer to the true image "
        "than chance, and that the true image is the closest of the client's images of its class. "
        "Chance is the best guess without any update: mid-grey, the mean test image of the class, "
        "or the client's nearest other image.",
        "“Not shown” means that these attacks with this budget did not succeed. A stronger attack, "
        "more rounds or side knowledge may succeed.",
        "“Diagnostic” marks an attack that was easier than a real one, for the reasons given; it "
        "shows what an update contains. “Realistic” marks all other attacks.",
        "“Mismatch” means that replaying the client's training from the seed does not give the "
        f"update that the server captured (cosine below {CONSISTENT:g}). Where a client's noise "
        "cannot be drawn again, the payload is not checked.",
        f"A poisoning “succeeds” if it reaches at least {SUCCEEDS:g} of what chance leaves open "
        "after the last round. Chance is how often the same network gives the targeted label to "
        "clean images: for a trigger the same images without it, for one target image all images "
        "of other classes, for flipped labels the classes that are not flipped to that label. If "
        "there are no such images, the rate itself decides. Some poisonings target no class and "
        "affect the accuracy alone.",
        "An ε holds for one unit, one adjacency and one δ, which are named beside it, and is never "
        "added to another. The total is infinite once a client took part without the mechanism; "
        "the ε of its protected rounds is reported beside it. A “vacuous” bound is too large to "
        "mean anything.",
        "Accuracy and attack success are measured on test images that no client holds.",
        *runs,
        f"The results hold for these images ({source_of(scenario)}), this network "
        f"({scenario.model.name}) and this training. Others may leak more or less.",
        repeatability(arms or [scenario]),
    ]
