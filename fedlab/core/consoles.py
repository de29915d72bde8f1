"""The consoles of all commands: results on standard output, errors on standard error."""

import sys

from rich.console import Console

# Pipes and log files have no width of their own; 110 columns fit the tables.
# Names may contain brackets, which must not be read as markup.
console = Console(width=None if sys.stdout.isatty() else 110, markup=False, emoji=False)
complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
