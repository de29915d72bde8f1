"""The defenses that are compared, each on all rounds and all clients."""

from collections.abc import Mapping
from typing import Any

Arm = Mapping[str, Any]
"""Tables of a scenario that differ from the open one."""


def _defended(*defenses: Mapping[str, Any]) -> Arm:
    return {"defenses": list(defenses)}


def _mixing(k: int, noise: int) -> Arm:
    return _defended({"name": "dp-instahide", "k": k, "scale": noise / 255})


ARMS: dict[str, Arm] = {
    "none": {},
    "mixup k=2": _defended({"name": "mixup", "k": 2}),
    "mixup k=4": _defended({"name": "mixup", "k": 4}),
    "noise 16 only": _mixing(1, 16),
    **{f"DP-InstaHide k={k}, {noise}": _mixing(k, noise) for k in (2, 4) for noise in (8, 16, 32)},
    "CutMix": _defended({"name": "cutmix"}),
    "Cutout": _defended({"name": "cutout"}),
    "MaxUp": _defended({"name": "maxup"}),
    **{
        f"DP-SGD z={noise}": _defended({"name": "dp-sgd", "noise_multiplier": noise})
        for noise in (0.5, 1.0, 2.0)
    },
    "clip + noise": _defended(
        {"name": "clip-noise", "clipping_norm": 1.0, "noise_multiplier": 0.02}
    ),
    "pruning 90 %": _defended({"name": "pruning", "share": 0.9}),
    "secure aggregation": _defended({"name": "secure-aggregation"}),
    "central DP": {"server": {"central_dp": {"clipping_norm": 1.0, "noise_multiplier": 0.05}}},
}
"""By name. Noise of images is Laplace, in 1/255; central DP is Flower's, which hides nothing from
this server."""

FIVE = ("none", "mixup k=4", "DP-InstaHide k=4, 16", "CutMix", "DP-SGD z=1.0")
"""Those that the larger images are worth."""
