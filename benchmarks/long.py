"""Long attacks on untrained and trained networks, on a GPU.

Single CIFAR-10 test images from 0, none left out, labels inferred. The trained network is a
ResNet-18, attacked as Geiping et al. 2020 did trained ones, with total variation 0.1, and with the
settings that suit the trained network of ``benchmarks.families``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import nn

from attacks.reconstruction import PRESETS, AttackSettings, Reconstruction, invert
from benchmarks.families import TRAINED, WIDE
from benchmarks.options import Options, cifar
from benchmarks.report import Claim, Figure, Report, console
from benchmarks.rivals import attacked, scored
from benchmarks.victims import Victim, trained
from fedlab.core.errors import BadInput
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.models import build
from fedlab.report.figures.reconstructions import ReconstructionRow, reconstruction_figure, save

IMAGES, ITERATIONS, OURS = tuple(range(8)), 1_000, 1_000
GOAL = 27.0
"""Median PSNR in dB on the untrained network; the authors' notebook gives about 28."""

ON_TRAINED, TRAINED_ITERATIONS, TRAINED_OURS = tuple(range(4)), 800, 400
RESTARTS, TIMED = 8, 100

PUBLISHED = replace(PRESETS["inverting-gradients"], tv=1e-6)


@dataclass(frozen=True)
class _Arm:
    """The results of one attack on all victims of a network.

    Attributes:
        name: Name of network and attack.
        victims: Victims of a single image each.
        found: Images that were rebuilt, one for each victim.
    """

    name: str
    victims: Sequence[Victim]
    found: Sequence[Reconstruction]

    @classmethod
    def of(cls, name: str, victims: Sequence[Victim], attack: AttackSettings) -> "_Arm":
        arm = cls(name, victims, [_unlabelled(one, attack) for one in victims])
        console.print(f"{name}: median {median(arm.psnr):.1f} dB")
        return arm

    @property
    def psnr(self) -> list[float]:
        return [scored(v, f.images)[0][0] for v, f in zip(self.victims, self.found, strict=True)]

    @property
    def ssim(self) -> list[float]:
        return [scored(v, f.images)[1][0] for v, f in zip(self.victims, self.found, strict=True)]

    @property
    def right(self) -> list[bool]:
        pairs = zip(self.victims, self.found, strict=True)
        return [bool((found.labels.cpu() == one.labels).all()) for one, found in pairs]

    @property
    def figures(self) -> list[Figure]:
        return [
            Figure(f"{self.name}: PSNR", "dB", self.psnr),
            Figure(f"{self.name}: SSIM", "", self.ssim),
            Figure(f"{self.name}: labels right", "", [float(each) for each in self.right]),
            Figure(f"{self.name}: an image", "s", [each.seconds for each in self.found]),
        ]

    @property
    def row(self) -> ReconstructionRow:
        return ReconstructionRow(
            label=self.name,
            truth=torch.cat([one.pixels for one in self.victims]),
            guess=torch.cat([each.images.cpu() for each in self.found]),
            psnr=self.psnr,
            ssim=self.ssim,
            verdict=["label right" if each else "label wrong" for each in self.right],
        )


def run(options: Options) -> Report:
    """Attack single images for thousands of iterations.

    Raises:
        BadInput: If there are no images, or no GPU is named.
    """
    data = load(f"npz:{cifar(options)}")
    device = torch.device(options.device)
    if device.type != "cuda":
        raise BadInput("the benchmark long is for a GPU: name it with --device cuda")
    victims = WIDE.victims(WIDE.model(data, device)[0], data, IMAGES)
    name = "untrained convnet8 of width 64"
    arms = [
        _Arm.of(f"{name}, published", victims, replace(PUBLISHED, iterations=ITERATIONS)),
        _Arm.of(f"{name}, ours", victims, replace(WIDE.ours, iterations=OURS)),
    ]
    reached = median(arms[1].psnr)
    speed = _images_per_minute(victims[0])
    model, accuracy = trained(data.to(device), _resnet(data, device))
    victims = TRAINED.victims(model, data, ON_TRAINED)
    name = f"ResNet-18 of accuracy {accuracy:.2f}"
    arms += [
        _Arm.of(
            f"{name}, total variation 0.1",
            victims,
            replace(PUBLISHED, tv=0.1, iterations=TRAINED_ITERATIONS),
        ),
        _Arm.of(f"{name}, ours", victims, replace(TRAINED.ours, iterations=TRAINED_OURS)),
    ]
    if options.picture:
        title = "What does a long attack rebuild of single images?"
        save(reconstruction_figure([arm.row for arm in arms], title=title), options.picture)
    return Report(
        title="What does a long attack reach?",
        settings={
            "images": "CIFAR-10 test images from 0 in class order, one at a time",
            "iterations": f"published {ITERATIONS:,}, ours {OURS:,}; on the trained network "
            f"{TRAINED_ITERATIONS:,} and {TRAINED_OURS:,}",
            "labels": "inferred",
        },
        figures=[*(figure for arm in arms for figure in arm.figures), *speed],
        claims=[
            Claim(
                f"our median PSNR on the untrained network is {reached:.1f} dB, "
                f"at least {GOAL:.0f}",
                reached >= GOAL,
            ),
            Claim("every label of a single image is right", all(all(a.right) for a in arms)),
        ],
    )


def _resnet(data: ImageData, device: torch.device) -> nn.Module:
    return build("resnet18", shape=data.shape, classes=data.num_classes, norm="batch").to(device)


def _unlabelled(one: Victim, attack: AttackSettings) -> Reconstruction:
    """An attack that has to infer the label."""
    generator = torch.Generator().manual_seed(0)
    known = replace(one.knowledge, labels=None)
    return invert(one.model, one.state, one.payload, known, attack, generator=generator)


def _images_per_minute(one: Victim) -> list[Figure]:
    """Attacks of ``ITERATIONS`` with eight restarts per minute, one by one and side by side."""
    figures = []
    for name, workers in (("one by one", 1), ("side by side", RESTARTS)):
        attack = replace(PUBLISHED, restarts=RESTARTS)
        seconds = [
            attacked(one, replace(attack, iterations=n), workers=workers).seconds
            for n in (TIMED, 2 * TIMED)
        ]
        whole = (seconds[1] - seconds[0]) / TIMED * ITERATIONS
        name = f"convnet8 of width 64, {RESTARTS} restarts {name}"
        figures.append(Figure(f"{name}", "images a minute", [60 / whole]))
    return figures
