"""One or two printed pages about a run or a comparison, for somebody who must decide."""

from fedlab.report.card.write import CARD, write_card

__all__ = ["CARD", "write_card"]
