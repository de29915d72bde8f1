"""Where commands print: results on one console, complaints on the other."""

import sys

from rich.console import Console

# A pipe or a log file has no width of its own; the tables fit into this one.
# Names may hold brackets, which are not meant as markup.
console = Console(width=None if sys.stdout.isatty() else 110, markup=False, emoji=False)
complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
