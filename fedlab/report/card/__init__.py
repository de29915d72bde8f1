"""One or two printed pages about results, for somebody who must decide."""

from fedlab.report.card.write import write_card

__all__ = ["write_card"]
