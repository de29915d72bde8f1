"""Names of the privacy accountants, in a module that does not import Opacus."""

from typing import Literal

AccountantName = Literal["rdp", "prv", "pld", "gdp"]
"""``rdp``, ``prv`` and ``pld`` are upper bounds on epsilon, ``gdp`` is an approximation."""
