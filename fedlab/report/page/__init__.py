"""One offline HTML page about a run or a comparison."""

from fedlab.report.page.write import PAGE, open_subject, write_page

__all__ = ["PAGE", "open_subject", "write_page"]
