"""Versions and hardware that results depend on, without names of machines or paths."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("fedlab-privacy", "torch", "torchvision", "flwr", "opacus", "numpy")


def environment() -> dict[str, Any]:
    """Describe the Python, the packages and the hardware of this process.

    Returns:
        ``python``, ``packages`` by name, ``system``, ``processor``, ``cores``, ``memory_gib``,
        PyTorch ``threads``, and ``gpu``, which is ``None`` without one.
    """
    # Reading a run folder imports this module, and PyTorch takes seconds to load.
    import torch

    return {
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def version_of(name: str) -> str:
    """Version of an installed package; ``not installed`` for a checkout without metadata."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Model name of the processor, which Python itself does not report on Linux."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
