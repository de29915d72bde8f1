"""Errors of a network, which may be anybody's code, as one sentence with its name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from traceback import walk_tb
from typing import Any, TypeVar

from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.plugins import PluginFailed, describe

Method = TypeVar("Method", bound=Callable[..., Any])

TORCH = ("/torch/nn/", "/torch/autograd/", "/torch/_functorch/", "/torch/jit/")
"""Folders whose functions call a network and differentiate it."""

OURS = tuple(f"/{name}/" for name in ("fedlab", "attacks"))


class NetworkFailed(PluginFailed):
    """A network raised an error, or PyTorch did while it was computed or differentiated."""


@contextmanager
def naming_network(name: str) -> Iterator[None]:
    """Raise what a network raises within the block as a sentence that begins with its name.

    Args:
        name: Words for the network, such as ``model "lenet"``.

    Raises:
        NetworkFailed: If the network fails. Errors that come from elsewhere stay as they are.
    """
    try:
        yield
    except (BadInput, RunFailed):
        raise
    except (Exception, SystemExit) as error:  # a stranger's network may raise anything
        if not from_network(error):
            raise
        raise NetworkFailed(f"{name} failed: {describe(error)}") from error


def from_network(error: BaseException) -> bool:
    """True if an error comes from a network or its derivatives, and not from the code around it."""
    files = [Path(f.f_code.co_filename).as_posix() for f, _ in walk_tb(error.__traceback__)]
    root = Path(__file__).resolve().parents[2].as_posix()
    last = files[-1].removeprefix(root) if files else ""
    return any(part in file for file in files for part in TORCH) and not last.startswith(OURS)


def names_network(name: Callable[[Any], str]) -> Callable[[Method], Method]:
    """Decorate a method so that errors of the network are raised as ``NetworkFailed``.

    Args:
        name: Function from the object to the words for its network.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def named(self: Any, *arguments: Any, **options: Any) -> Any:
            with naming_network(name(self)):
                return method(self, *arguments, **options)

        return named  # type: ignore[return-value]

    return decorate
