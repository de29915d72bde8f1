"""A process of a Ray cluster, seen from the process that gives it work, and from inside."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray

from fedlab.core.devices import prepare
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.foreign_code import described
from fedlab.core.processes import become_worker
from fedlab.core.workers import Work

SAME = ("fedlab-privacy", "torch", "numpy")
"""Packages of which all machines need the same version."""


class Process:
    """A process of the cluster, seen from here.

    Attributes:
        beginning: Object that Ray has once the process has begun, or never will.
        node: Id of its machine, once it has begun.
        id: Its process id there.
        place: Place of the item that it carries out, or carried out last.
    """

    def __init__(
        self, prepare: Callable[[], object], *, threads: int, cpus: int, gpus: float
    ) -> None:
        # Spread, so that every machine of the cluster takes part in a short run.
        options = {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
        self._actor = _ACTOR.options(**options).remote(os.getcwd(), _own_path(), threads)
        self.beginning = self._actor.begin.remote(prepare)
        self.node, self.id, self.place = "", 0, 0
        self._answer: Any = None
        self._until: float | None = None

    def note_beginning(self) -> None:
        """Note where the process has begun.

        Raises:
            BadInput: If it cannot run the scenario.
            RunFailed: If it ended while it began.
        """
        try:
            facts = ray.get(self.beginning)
        except ray.exceptions.RayActorError as error:
            raise RunFailed(f"a process on Ray did not start: {_reason(error)}") from error
        except ray.exceptions.RayError as error:
            facts = {"problem": _reason(error)}
        here = _versions()
        for name, there in facts.get("versions", here).items():
            if there != here[name]:
                raise BadInput(
                    f"node {facts['ip']} of the Ray cluster has {name} {there}, and this machine "
                    f"{here[name]}: install the same versions on every node"
                )
        if facts["problem"]:
            raise BadInput(
                f"node {facts.get('ip', '')} of the Ray cluster cannot run this scenario: "
                f"{facts['problem']}"
            )
        self.node, self.id = facts["node"], facts["process"]

    @property
    def is_idle(self) -> bool:
        """Whether it can carry out an item."""
        return bool(self.node) and self._answer is None

    def carry_out(self, call: Any, work: Work, place: int) -> Any:
        """Let it carry out an item.

        Args:
            call: The function, in Ray's object store.
            work: What the item is one of.
            place: The place of the item.

        Returns:
            Object that Ray has once the process has answered, or has ended.
        """
        self.place = place
        self._until = None if work.seconds is None else time.monotonic() + work.seconds
        # In a list, so that Ray does not send the function with every item.
        self._answer = self._actor.carry_out.remote([call], work.items[place])
        return self._answer

    def answer(self) -> tuple[bool, Any]:
        """True and the result, or False and why there is none.

        Raises:
            RayActorError: If the process has ended.
        """
        answer, self._answer = self._answer, None
        try:
            succeeded, result = ray.get(answer)
        except ray.exceptions.RayActorError:
            raise
        except Exception as error:  # what cannot be pickled may raise anything
            return False, described(error)
        return succeeded, result

    def kill_if_late(self) -> None:
        """End it if it takes longer than its item may."""
        if self._until is not None and time.monotonic() > self._until:
            self.kill()

    def kill(self) -> None:
        """End it, whatever it computes."""
        with suppress(Exception):  # the cluster may be gone
            ray.kill(self._actor)


class _Actor:
    """The process itself: imports modules from where its parent does, and carries out calls.

    Args:
        folder: Working folder of the parent, if this machine has it.
        path: Where the parent finds modules that are not installed.
        threads: Number of PyTorch threads.
    """

    def __init__(self, folder: str, path: list[str], threads: int) -> None:
        become_worker()
        with suppress(OSError):
            os.chdir(folder)
        sys.path[:0] = [each for each in path if each not in sys.path]
        prepare(threads)
        self._key: Any = None
        self._call: Callable[[Any], object] = _nothing

    def begin(self, prepare: Callable[[], object]) -> dict[str, Any]:
        """Read the images; say where this is, which versions it has, and what is wrong."""
        problem = ""
        try:
            prepare()
        except BaseException as error:  # of a stranger's module, perhaps
            problem = described(error)
        return {
            "node": ray.get_runtime_context().get_node_id(),
            "ip": str(ray.util.get_node_ip_address()),  # type: ignore[no-untyped-call]
            "process": os.getpid(),
            "versions": _versions(),
            "problem": problem,
        }

    def carry_out(self, call: list[Any], item: Any) -> tuple[bool, Any]:
        """Call a function with an item; true and the result, or false and what it raised."""
        try:
            if call[0] != self._key:
                self._call, self._key = ray.get(call[0]), call[0]
            return True, self._call(item)
        except BaseException as error:
            return False, described(error)


_ACTOR: Any = ray.remote(_Actor)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in SAME}


def _own_path() -> list[str]:
    """Where this process finds modules, without what belongs to Python and installed packages."""
    installed = {Path(sys.prefix), Path(sys.base_prefix)}
    folders = [Path(each or os.getcwd()).absolute() for each in sys.path]
    return [str(each) for each in folders if not installed & {each, *each.parents}]


def _reason(error: Exception) -> str:
    """The last line of an error of Ray that names another one."""
    lines = [line.strip() for line in str(error).splitlines() if "Error" in line]
    return lines[-1] if lines else type(error).__name__


def _nothing(_: Any) -> object:
    """The call before the first one."""
    return None
