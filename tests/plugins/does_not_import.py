"""A module of a plug-in whose own dependency is missing."""

import a_package_that_nobody_has  # noqa: F401
