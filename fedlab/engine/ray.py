"""Clients and attacks in processes of a Ray cluster, with the bits of one process.

A client never runs in the process of the server, so that one that computes without end in native
code can be killed. Scenario, images and weights travel by Ray, whose machines each keep one copy of
the images in memory that their processes share.
"""

import logging
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from fedlab.core.devices import prepare
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.foreign_code import described
from fedlab.core.processes import become_worker
from fedlab.core.workers import Work, Workers
from fedlab.data.images import ImageData
from fedlab.engine.ray_cluster import (
    connect,
    gpus_of_cluster,
    processes_that_fit,
    started_here,
)

log = logging.getLogger(__name__)

LOOKS = 0.5
"""Seconds between two looks at whether a process computes for too long."""

NEWS = 15.0
"""Seconds without any process after which a line says what the run waits for."""

STARTUP = 120.0
"""Seconds that ``RayWorkers.ready`` waits for processes; others may use the cluster's CPUs."""

SAME = ("fedlab-privacy", "torch", "numpy")
"""Packages of which all machines need the same version."""

_GPU_STEP = 10_000
"""Ray counts GPUs in such parts."""


@dataclass(frozen=True)
class _Memory:
    """A tensor as it lies in memory, since on the order the bits of a layer depend.

    Attributes:
        values: All values in the order of the memory.
        shape: Shape of the tensor.
        strides: Its strides.
    """

    values: np.ndarray[Any, Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "_Memory":
        dense = tensor.clone()  # a copy is without gaps, and keeps the order
        flat = dense.as_strided((dense.numel(),), (1,))
        return cls(flat.numpy(), tuple(dense.shape), dense.stride())

    def tensor(self) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")
            return torch.from_numpy(self.values).as_strided(self.shape, self.strides)


class StoredImages:
    """Images in Ray's object store.

    Args:
        images: The images.
    """

    def __init__(self, images: ImageData) -> None:
        self._images: ImageData | None = images
        self._stored: Any = None

    def store(self) -> None:
        """Copy them to the store of this machine, from where other machines fetch them."""
        here = self._images.to("cpu") if self._images else None
        values = {each.name: getattr(here, each.name) for each in fields(ImageData)}
        memory = {n: _Memory.of(v) for n, v in values.items() if isinstance(v, torch.Tensor)}
        self._stored = ray.put(values | memory)

    def __call__(self) -> ImageData:
        """Map them into the memory of this process."""
        values: dict[str, Any] = {
            name: value.tensor() if isinstance(value, _Memory) else value
            for name, value in ray.get(self._stored).items()
        }
        return ImageData(**values)

    def __getstate__(self) -> dict[str, Any]:
        """What other processes are sent: where the images are."""
        return {"_images": None, "_stored": self._stored}


class RayWorkers(Workers):
    """Processes of a Ray cluster, as many as it has CPUs for; this process itself only waits.

    Args:
        address: Host and port of a cluster, or ``auto``; ``None`` starts one on this machine.
        most: Largest number of processes; ``None`` takes all CPUs of the cluster.
        here: Number of processes on a cluster that is started.
        threads: Number of PyTorch threads of each, and of CPUs that it takes.
        on_gpus: Whether the processes share the cluster's GPUs.

    Raises:
        BadInput: If there is no such cluster, or it has no room.
        RunFailed: If Ray cannot be started here.
    """

    def __init__(
        self, address: str | None, *, most: int | None, here: int, threads: int, on_gpus: bool
    ) -> None:
        super().__init__(1, threads=threads)
        self._address, self._most, self._here = address, most, here
        self._on_gpus, self._alone = on_gpus, False
        self._processes: list[_Process] = []
        self._lost: list[int] = []
        self._disconnect: Callable[[], None] | None = None
        self._connect()

    def start(self) -> None:
        """Start the processes, without waiting for them."""
        if not self._processes:
            self._connect()
            self.before_start()
            self._processes = [self._new() for _ in range(self.count)]

    def ready(self) -> None:
        """Start the processes, and wait until they have begun, unless others use their CPUs.

        Raises:
            BadInput: If one of them cannot run the scenario.
        """
        self.start()
        waited = {each.beginning: each for each in self._processes}
        for done in ray.wait(list(waited), num_returns=len(waited), timeout=STARTUP)[0]:
            waited[done].note_beginning()

    def close(self) -> None:
        """End the processes, and the cluster if it was started for them."""
        for each in self._processes:
            each.kill()
        self._processes = []
        if self._disconnect:
            self._disconnect()
            self._disconnect = None

    def stay_alone(self) -> None:
        """End the processes, and do everything in this one from now on."""
        self._alone = True
        super().stay_alone()

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of those that have begun, each on its own machine."""
        return tuple(each.id for each in self._processes if each.id)

    @property
    def nodes(self) -> frozenset[str]:
        """Ids of the machines of those that have begun."""
        return frozenset(each.node for each in self._processes if each.node)

    def _connect(self) -> None:
        if self._disconnect:
            return
        self._disconnect = connect(self, self._address, self._here * self._threads)
        if started_here():
            self.count = self._here
        else:
            room = processes_that_fit(self._threads)
            self.count = min(room, self._most or room)

    def _new(self) -> "_Process":
        gpus = gpus_of_cluster() if self._on_gpus else 0.0
        share = int(_GPU_STEP * gpus / self.count) / _GPU_STEP
        # Federations of this process share its own cluster, and none waits for another's CPUs.
        cpus = 0 if started_here() else self._threads
        return _Process(self.prepare, threads=self._threads, cpus=cpus, gpus=share)

    def _share(self, work: Work) -> None:
        if self._alone:
            super()._share(work)
            return
        self.start()
        call, running, again = ray.put(work.call), dict[Any, _Process](), deque[int]()
        tried, news = set[int](), time.monotonic() + NEWS
        while work.left or again or running:
            for process in self._processes:
                if process.is_idle:
                    place = again.popleft() if again else work.take()
                    if place is not None:
                        running[process.carry_out(call, work, place)] = process
            starting = {p.beginning: p for p in self._processes if not p.node}
            for done in ray.wait([*running, *starting], timeout=LOOKS)[0]:
                if done in starting:
                    starting[done].note_beginning()
                    continue
                process = running.pop(done)
                place = process.place
                try:
                    work.note(place, *process.answer())
                except ray.exceptions.RayActorError:
                    self._replace(process)
                    if place in tried:
                        self._lost.append(place)
                    else:
                        again.append(place)
                    tried.add(place)
            for process in running.values():
                process.kill_if_late()
            if len(starting) == len(self._processes) and time.monotonic() > news:
                log.warning("waiting for the CPUs of the Ray cluster, which others may use")
                news = float("inf")

    def _repeat(self, work: Work, died: Callable[[Any], Any] | None) -> None:
        """Give up the items whose processes were killed twice."""
        lost, self._lost = self._lost, []
        for place in lost:
            work.give_up(place, died)

    def _replace(self, process: "_Process") -> None:
        process.kill()
        self._processes[self._processes.index(process)] = self._new()


class _Process:
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
