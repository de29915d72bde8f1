"""This process's connection to a Ray cluster: one that people started, or its own on this machine.

A process has one such connection, which all its federations share.
"""

import logging
import os
import signal
import socket
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

import psutil
import ray

from fedlab.core.errors import BadInput, RunFailed
from fedlab.results.temporary import temporary_folder

LONGEST_TEMPORARY = 37
"""Largest number of characters of a folder in which Ray can still open its sockets."""

PATIENCE = 5.0
"""Seconds within which something must answer at the address of a cluster."""

PARTING = 10.0
"""Seconds that the processes of a cluster that was started here have to end by themselves."""

SETTINGS = {
    # Else Ray's agents look for the cluster of a killed run for a minute before they end.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    # Clients are the work itself, and not beside it as on a cluster that people share.
    "RAY_worker_niceness": "0",
}
"""Environment variables of a cluster that is started here, unless they are set already."""

_holders: set[object] = set()
_end: Callable[[], None] | None = None
"""Ends the connection; ``None`` if the caller has made it, whose it then stays."""

_started = False
"""Whether the cluster was started for the federations of this process alone."""


def connect(holder: object, address: str | None, cpus: int) -> Callable[[], None]:
    """Connect this process to a cluster, or use the connection that it has.

    Args:
        holder: The object that uses the connection, which ends with the last one.
        address: Host and port of the cluster's head, or ``auto`` for the one that this machine is
            a node of; ``None`` to start one on this machine.
        cpus: Number of CPUs of a cluster that is started.

    Returns:
        A function by which the holder gives the connection up.

    Raises:
        BadInput: If there is no such cluster, or this machine is not one of its nodes.
        RunFailed: If Ray cannot be started here.
    """
    global _end, _started
    if not ray.is_initialized():
        _end = _start(cpus) if address is None else _join(address)
        _started = address is None
    key = object()
    _holders.add(key)
    return weakref.finalize(holder, _give_up, key)


def started_here() -> bool:
    """Whether the cluster was started by ``connect``, and nobody else uses its CPUs."""
    return _started


def processes_that_fit(threads: int) -> int:
    """Number of processes for which the nodes of the cluster have CPUs.

    Args:
        threads: Number of CPUs that each takes, all on one node.

    Raises:
        BadInput: If none fits.
    """
    if count := sum(int(each.get("CPU", 0)) // threads for each in _nodes()):
        return count
    raise BadInput(
        f"no node of the Ray cluster has {threads} CPUs, which engine.threads asks for: start one "
        "with more (`ray start --num-cpus`), or lower engine.threads"
    )


def gpus_of_cluster() -> float:
    """Number of GPUs of all nodes of the cluster."""
    return sum(each.get("GPU", 0.0) for each in _nodes())


def _nodes() -> list[dict[str, float]]:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [each["Resources"] for each in nodes if each["Alive"]]


def _give_up(key: object) -> None:
    global _end, _started
    _holders.discard(key)
    if not _holders and _end is not None:
        _end()
        _end, _started = None, False


def _start(cpus: int) -> Callable[[], None]:
    folder, discard = temporary_folder()
    place = {"_temp_dir": str(folder)} if len(str(folder)) <= LONGEST_TEMPORARY else {}
    path = os.pathsep.join(each or os.getcwd() for each in sys.path)
    before = set(psutil.Process().children())
    try:
        unset = {name: value for name, value in SETTINGS.items() if name not in os.environ}
        with _quiet(), _environment(unset | {"PYTHONPATH": path}):
            _init(address="local", num_cpus=cpus, include_dashboard=False, **place)
    except (RuntimeError, OSError, ValueError) as error:
        discard()
        raise RunFailed(f"Ray does not start on this machine: {_first_line(error)}") from error

    started = set(psutil.Process().children()) - before

    def end() -> None:
        family = [*started]
        for each in started:
            with suppress(psutil.NoSuchProcess):
                family += each.children(recursive=True)
        _shutdown()
        _, alive = psutil.wait_procs(family, timeout=PARTING)  # they still write to the folder
        for each in alive:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        discard()

    return end


def _join(address: str) -> Callable[[], None]:
    host, _, port = address.rpartition(":")
    if address != "auto":
        try:
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        except (OSError, ValueError, OverflowError) as error:
            raise BadInput(
                f'no Ray cluster answers at engine.address = "{address}" ({error}): start its head '
                "by `ray start --head`, or leave the key out to use this machine alone"
            ) from error
    try:
        with _quiet():
            _init(address=address)
    except (RuntimeError, OSError, ValueError) as error:
        raise BadInput(
            f'the Ray cluster of engine.address = "{address}" cannot be used from here: '
            f"{_first_line(error)}. This machine must be one of its nodes (`ray start "
            "--address=HOST:PORT`), with the same versions of Python and Ray"
        ) from error
    return _shutdown


_shutdown: Callable[[], None] = ray.shutdown
_init: Callable[..., object] = partial(ray.init, log_to_driver=False, logging_level=logging.ERROR)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide Ray's advice, and keep the handler of SIGTERM, which Ray replaces by its own."""
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if ours and before is not None:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Give the processes that are started here other environment variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
