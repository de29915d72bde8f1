"""Clients and attacks in processes of a Ray cluster, with the bits of one process.

A client never runs in the process of the server, so that one that computes without end in native
code can be killed. Scenario, images and weights travel by Ray, whose machines each keep one copy of
the images in memory that their processes share.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import ray

from fedlab.core.workers import Work, Workers
from fedlab.engine.ray_cluster import (
    connect,
    gpus_of_cluster,
    processes_that_fit,
    started_here,
)
from fedlab.engine.ray_process import Process

log = logging.getLogger(__name__)

LOOKS = 0.5
"""Seconds between two looks at whether a process computes for too long."""

NEWS = 15.0
"""Seconds without any process after which a line says what the run waits for."""

STARTUP = 120.0
"""Seconds that ``RayWorkers.ready`` waits for processes; others may use the cluster's CPUs."""

_GPU_STEP = 10_000
"""Ray counts GPUs in such parts."""


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
        self._processes: list[Process] = []
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
    def cpu_seconds(self) -> float:
        """NaN, since processes of other machines are out of sight."""
        return math.nan

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

    def _new(self) -> "Process":
        gpus = gpus_of_cluster() if self._on_gpus else 0.0
        share = int(_GPU_STEP * gpus / self.count) / _GPU_STEP
        # Federations of this process share its own cluster, and none waits for another's CPUs.
        cpus = 0 if started_here() else self._threads
        return Process(self.prepare, threads=self._threads, cpus=cpus, gpus=share)

    def _share(self, work: Work) -> None:
        if self._alone:
            super()._share(work)
            return
        self.start()
        call, running, again = ray.put(work.call), dict[Any, Process](), deque[int]()
        tried, news = set[int](), float("inf") if started_here() else time.monotonic() + NEWS
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

    def _replace(self, process: "Process") -> None:
        process.kill()
        self._processes[self._processes.index(process)] = self._new()
