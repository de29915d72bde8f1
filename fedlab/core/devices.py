"""Which device a scenario runs on, and how PyTorch is set up there."""

import torch

from fedlab.core.errors import BadInput


def device_of(name: str) -> torch.device:
    """The device that a scenario names.

    Args:
        name: ``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        BadInput: If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f'engine.device "{name}" is none of auto, cpu, cuda, cuda:0 ...') from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (device.index or 0) >= count:
            raise BadInput(
                f'engine.device is "{name}", but PyTorch sees {count} CUDA devices here: '
                'use "auto" or "cpu"'
            )
    elif device.type != "cpu":
        raise BadInput(f'engine.device "{name}" is not supported: use auto, cpu or cuda')
    return device


def prepare(threads: int) -> None:
    """Make PyTorch give the same bits each time: fixed threads, deterministic kernels.

    Args:
        threads: Intra-operation threads. Sums split over threads round differently, so
            every engine must use the same number.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    # PyTorch's default, TF32, rounds what a convolution multiplies to 10 bits. On an H200 that made
    # an attack on a ResNet-18 1.5 times as fast, and one of three ended 14 dB lower.
    torch.backends.cudnn.allow_tf32 = False
