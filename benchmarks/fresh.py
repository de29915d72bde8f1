"""Run a function in a new process, so that its memory and imports are its own."""

import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

Result = TypeVar("Result")
Given = ParamSpec("Given")


@dataclass(frozen=True)
class Fresh(Generic[Result]):
    """The result of a process and its cost.

    Attributes:
        result: Return value of the function.
        seconds: Wall time of the whole process, imports included.
        peak: Peak memory of the process, in MiB.
    """

    result: Result
    seconds: float
    peak: float


def fresh(
    function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Fresh[Result]:
    """Call a function in a new interpreter and wait for it.

    Args:
        function: Function of a module, which the new process can import.
        *args: Arguments of the function; they must be picklable.
        **kwargs: Keyword arguments of the function; they must be picklable.
    """
    started = time.perf_counter()
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        result = pool.submit(function, *args, **kwargs).result()
        peak = pool.submit(peak_memory).result()
    return Fresh(result, time.perf_counter() - started, peak)


def peak_memory() -> float:
    """Peak memory of this process, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss, which on Linux survives an exec and so starts at the parent's size.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
