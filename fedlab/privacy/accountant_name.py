"""Names of the privacy accountants. Importing it needs no Opacus."""

from typing import Literal

AccountantName = Literal["rdp", "prv", "gdp"]
"""``rdp`` and ``prv`` are upper bounds on epsilon, ``gdp`` is an approximation."""
