"""Replay of a repeated step as one CUDA graph, which avoids launch overhead between small kernels.

PyTorch's notes on CUDA semantics, section "CUDA graphs", list the operations that may be captured.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARM_UPS = 3
"""Calls before the capture, in which kernels are chosen and optimisers allocate their state."""

AHEAD = 16
"""Largest number of queued calls. It keeps the device busy and lets a clock on the host follow the
progress; CUDA itself would queue about a thousand."""

logger = logging.getLogger(__name__)


class GraphedFunction:
    """Calls a function on its own CUDA stream, captures it as a graph, and replays the graph.

    The function may only read and write tensors that keep their addresses, and must not read their
    values on the host. A function that does so anyway, such as a user's network, is called without
    a graph.

    Args:
        function: Function without arguments and result.
        device: A CUDA device.
        name: The computation in words, for the log.
    """

    def __init__(
        self, function: Callable[[], None], device: torch.device, *, name: str = "the attack"
    ) -> None:
        self._function, self._name = function, name
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._left = WARM_UPS
        self._pending: deque[torch.cuda.Event] = deque()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Queue the work of the block on the stream, after the work of the caller's stream."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Make the caller's stream wait for all queued calls."""
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def __call__(self) -> None:
        """Call or replay the function within ``stream``, once few enough calls are queued."""
        if self._left == 0:
            self._capture()
        if self._graph is None:
            self._function()
        else:
            self._graph.replay()
        self._left -= 1
        self._pending.append(self._stream.record_event())
        if len(self._pending) > AHEAD:
            self._pending.popleft().synchronize()

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may allocate memory during the capture.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._function()
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            logger.info("%s runs without a CUDA graph, which takes longer: %s", self._name, reason)
        else:
            self._graph = graph
