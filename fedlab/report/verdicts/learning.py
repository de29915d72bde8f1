"""Verdict on a network that predicts no better than a constant."""

from collections.abc import Sequence

from fedlab.metrics.intervals import LEVEL, binomial_interval
from fedlab.report.verdicts.run import Verdict
from fedlab.results.rows import RoundRow


def learning_verdicts(rounds: Sequence[RoundRow]) -> list[Verdict]:
    """A verdict on a network that has learned nothing; none if it has, or if nothing is known.

    A network has learned something if the exact binomial interval of its accuracy, of Clopper and
    Pearson, lies above the accuracy of always predicting the most frequent class.

    Args:
        rounds: Rows of the rounds from round 0 on.
    """
    last = rounds[-1] if rounds else None
    if last is None or not last.round or not last.test_images:
        return []
    low, high = binomial_interval(last.accuracy, last.test_images)
    if low > last.chance_accuracy:
        return []
    sentence = (
        f"After round {last.round} the accuracy on {last.test_images:,} test images is "
        f"{last.accuracy:.3f}, with a {LEVEL:.0%} interval of {low:.3f} to {high:.3f}, "
        f"which is not shown to be above the {last.chance_accuracy:.3f} of always predicting the "
        "most frequent class."
    ).replace("%", " %")
    best = max(rounds, key=lambda row: row.accuracy)
    # All rounds have the same test images, though rounds of earlier versions do not say so.
    if binomial_interval(best.accuracy, last.test_images)[0] > last.chance_accuracy:
        return [
            Verdict(
                "Training",
                "learned nothing that lasts",
                f"{sentence} The network has lost what it had learned by round {best.round}, when "
                f"its accuracy was {best.accuracy:.3f}.",
            )
        ]
    return [
        Verdict(
            "Training",
            "learned nothing",
            f"{sentence} The network has learned nothing, so what was measured about leakage is of "
            "an untrained network.",
        )
    ]
