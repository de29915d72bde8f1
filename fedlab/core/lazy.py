"""PyTorch, imported when it is first used.

Settings and behaviour of a plug-in share one class and one file, and reading a scenario needs the
settings only. A built-in plug-in therefore takes ``torch`` from here: it costs seconds and half a
gigabyte, which a command that only shows a schedule should not pay.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
else:

    class _Torch:
        def __getattr__(self, name: str) -> Any:
            import torch as loaded

            return getattr(loaded, name)

    torch = _Torch()

__all__ = ["torch"]
