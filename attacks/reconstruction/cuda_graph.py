"""A step of a search as one CUDA graph, for a GPU that would wait for Python between small kernels.

PyTorch's notes on CUDA semantics, section "CUDA graphs", say what may be recorded.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARM_UPS = 3
"""Calls before the recording, in which kernels are chosen and optimisers get their state."""

AHEAD = 16
"""Most calls that wait on the device: enough for it never to be idle, few enough for a clock on
the host to say how far it is. CUDA itself would take about a thousand."""

logger = logging.getLogger(__name__)


class Recorded:
    """Calls a function on a CUDA stream of its own, and replays it once it was recorded.

    The function may only read and write tensors that stay where they are, and must not look at
    their values; one that does so anyway (in a user's network, say) is called as before.

    Args:
        function: Without arguments and result.
        device: A CUDA device.
    """

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self._function = function
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._left = WARM_UPS
        self._pending: deque[torch.cuda.Event] = deque()

    @contextmanager
    def lane(self) -> Iterator[None]:
        """Inside the block work is queued on the stream, after what the caller's own holds."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Let the caller's stream wait for all that was queued."""
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def __call__(self) -> None:
        """Call or replay the function, in the block of ``lane``, once few calls are waiting."""
        if self._left == 0:
            self._record()
        if self._graph is None:
            self._function()
        else:
            self._graph.replay()
        self._left -= 1
        self._pending.append(self._stream.record_event())
        if len(self._pending) > AHEAD:
            self._pending.popleft().synchronize()

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may allocate meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._function()
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            logger.info("the attack runs without a CUDA graph, which takes longer: %s", reason)
        else:
            self._graph = graph
