"""Time of one crafting step of gradient matching, beside the Adversarial Robustness Toolbox (ART).

Both craft the same poisons against the same network on the same threads; the time of a step is the
difference of a long and a short search, so what comes before and after them is left out.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from attacks.poisoning.crafting import CraftSettings
from attacks.poisoning.gradient_matching import match_gradients
from attacks.poisoning.surrogate import Surrogate
from benchmarks.report import Claim, Figure
from fedlab.core.devices import prepare
from fedlab.core.errors import BadInput
from fedlab.data.images import ImageData
from fedlab.models import build

POISONS = 50
THREADS = (1, 2)
"""Of both; ART starts a worker process in every step, whose time no thread makes shorter."""
SHORT, LONG = 1, 6
"""Steps of the two searches."""
TURNS = 5
GOAL = 4.0
"""ART's time over ours, at least."""
EPSILON = 16 / 255


def crafting(data: ImageData) -> tuple[list[Figure], list[Claim]]:
    """Measure the seconds of a step of both in turns, and their ratio.

    Args:
        data: Images, of which the first training images of class 0 become poisons.

    Raises:
        BadInput: If ART is not installed.
    """
    prepare(1)
    network = build("convnet", shape=data.shape, classes=data.num_classes, width=32).eval()
    places = (data.train_labels == 0).nonzero().squeeze(1)[:POISONS]
    images, labels = data.train_images[places], data.train_labels[places]
    target = data.test_images[:1]
    arts = _arts(network, data, images, labels, target)
    surrogate = Surrogate(
        network,
        {name: p.detach() for name, p in network.named_parameters()},
        dict(network.named_buffers()),
        data.normalise,
    )

    def ours(steps: int) -> None:
        match_gradients(
            [surrogate],
            images,
            labels,
            targets=target,
            intended=torch.zeros(1, dtype=torch.int64),
            settings=CraftSettings(epsilon=EPSILON, steps=steps, restarts=1),
            generator=torch.Generator().manual_seed(0),
        )

    figures, claims = [], []
    for threads in THREADS:
        prepare(threads)
        seconds = _race({"ART": arts, "ours": ours})
        ratio = [a / b for a, b in zip(seconds["ART"], seconds["ours"], strict=True)]
        what = f"a crafting step of {POISONS} poisons, threads: {threads}"
        figures += [
            Figure(f"{what}, ART", "s", seconds["ART"]),
            Figure(f"{what}, ours", "s", seconds["ours"]),
            Figure(f"{what}: ART's time over ours", "", ratio),
        ]
        claims.append(
            Claim(
                f"a crafting step takes 1/{median(ratio):.1f} of ART's time on threads: {threads}, "
                f"at most 1/{GOAL:.0f}",
                median(ratio) >= GOAL,
            )
        )
    prepare(1)
    return figures, claims


def _arts(
    network: nn.Module, data: ImageData, images: Tensor, labels: Tensor, target: Tensor
) -> Callable[[int], None]:
    """Craft the same poisons with ART in a given number of steps."""
    try:
        from art.attacks.poisoning import GradientMatchingAttack
        from art.estimators.classification import PyTorchClassifier
    except ImportError as error:
        raise BadInput(
            'ART is not installed; it comes with: pip install "fedlab-privacy[bench]"'
        ) from error
    normalised = _Normalised(network, data)
    classifier = PyTorchClassifier(
        normalised.eval(),
        loss=nn.CrossEntropyLoss(),
        input_shape=data.shape,
        nb_classes=data.num_classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )

    def search(steps: int) -> None:
        GradientMatchingAttack(
            classifier,
            percent_poison=1.0,
            epsilon=EPSILON,
            max_trials=1,
            max_epochs=steps,
            batch_size=POISONS,
            verbose=0,
        ).poison(
            data.pixels(target).numpy(),
            np.array([0]),
            data.pixels(images).numpy(),
            labels.numpy(),
        )

    return search


class _Normalised(nn.Module):
    """The network with pixels as its input, as ART takes it."""

    def __init__(self, network: nn.Module, data: ImageData) -> None:
        super().__init__()
        self.network = network
        self._data = data

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits of pixels in [0, 1]."""
        logits: Tensor = self.network(self._data.normalise(pixels))
        return logits


def _race(searches: Mapping[str, Callable[[int], None]]) -> dict[str, list[float]]:
    """Seconds of a step of each in every turn, after a turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(TURNS + 1):
        for name, search in searches.items():
            found = _step(search)
            if turn:
                seconds[name].append(found)
    return seconds


def _step(search: Callable[[int], None]) -> float:
    """Seconds of each further step of a search."""
    taken = {}
    for steps in (SHORT, LONG):
        started = time.perf_counter()
        search(steps)
        taken[steps] = time.perf_counter() - started
    return (taken[LONG] - taken[SHORT]) / (LONG - SHORT)
