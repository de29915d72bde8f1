"""The user's own code in a scenario: ``package.module:function``."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from fedlab.core.errors import BadInput


def resolve(path: str) -> Callable[..., object]:
    """The function that a text names; modules of the working folder can be named too.

    Args:
        path: ``package.module:function``.

    Raises:
        BadInput: If the text is malformed, or names nothing that can be called.

    Example:
        >>> resolve("math:sqrt")(9.0)
        3.0
    """
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise BadInput(f'factory "{path}" must be written as package.module:function')
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise BadInput(f'factory "{path}" cannot be imported: {error}') from error
    found = getattr(module, name, None)
    if not callable(found):
        raise BadInput(f'factory "{path}": {module_name} has no function {name}')
    made: Callable[..., object] = found
    return made
