"""Whether an attack on many images fits into the memory that is free."""

import psutil
import torch

from attacks.knowledge import MOST_IMAGES
from attacks.reconstruction import AttackSettings, Problem
from attacks.reconstruction.memory import step_bytes


def refuse_beyond_memory(problem: Problem, attack: AttackSettings) -> None:
    """Refuse a search for more than 64 images that would take more memory than is free.

    Args:
        problem: The captured payloads and what is known about them.
        attack: Settings of the attack; other methods than a search for images are not refused.

    Raises:
        ValueError: If fewer bytes are free on the device.
    """
    images = problem.knowledge.num_images
    if images <= MOST_IMAGES or attack.method != "optimise":
        return
    needed, free = step_bytes(problem, attack), _free_bytes(problem.device)
    if needed > free:
        raise ValueError(
            f"an attack on {images} images would take about {needed / 2**30:,.1f} GiB of memory, "
            f"and {free / 2**30:,.1f} GiB are free"
        )


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)
