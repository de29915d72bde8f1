"""PSNR of single CIFAR-10 images rebuilt from their gradients on an untrained strided convnet.

Eight clients send the gradient of one image each, undefended; the labels are known. The images
are drawn by seed and none is left out.
"""

from statistics import median

from benchmarks.options import Options, cifar
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.report.figures.reconstructions import save
from fedlab.results.rows import LeakageRow
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Data, Engine, Model, Reconstruct
from fedlab.simulation.federation import Federation

IMAGES = 8
LEAST = 35.0
"""Median PSNR in dB."""


def scenario(source: str, seed: int, device: str = "cpu") -> Scenario:
    """A scenario of one round in which each of eight clients leaks one image."""
    return Scenario(
        name="single CIFAR-10 images",
        seed=seed,
        data=Data(source=source, clients=IMAGES),
        model=Model(name="convnet", width=64),
        roles=(Leaking(batch_size=1),),
        reconstructions=(Reconstruct(labels="known", iterations=400, tv=1e-4),),
        engine=Engine(device=device, threads=THREADS, workers=1),
    )


def run(options: Options) -> Report:
    """Rebuild eight images; each repeat takes eight others, by the next seed.

    Raises:
        BadInput: If there are no images.
    """
    source = f"npz:{cifar(options)}"
    seeds = range(options.repeats or 1)
    federations = [Federation(scenario(source, seed, options.device)) for seed in seeds]
    leaks: list[LeakageRow] = []
    for federation in federations:
        leaks += federation.step().leakage
    if options.picture:
        save(federations[0].picture(), options.picture)
        console.print(f"picture: {options.picture}", soft_wrap=True)
    psnr = [leak.psnr for leak in leaks]
    middle = median(psnr)
    data = federations[0].federated.data
    return Report(
        title="What does the gradient of one photograph give away?",
        settings={
            "images": f"CIFAR-10, {len(data.train_labels):,} of the training set to draw from",
            "seeds": ", ".join(map(str, seeds)),
            "parameters": sum(p.numel() for p in federations[0].federated.model.parameters()),
            "network": "convnet of width 64, untrained",
            "attack": "inverting-gradients, 400 iterations, total variation 1e-4, labels known",
        },
        figures=[
            *(_of_image(leak, place) for place, leak in enumerate(leaks)),
            Figure("PSNR", "dB", psnr),
            Figure("SSIM", "", [leak.ssim for leak in leaks]),
            Figure("chance PSNR", "dB", [leak.chance_psnr for leak in leaks]),
            Figure("an image", "s", [leak.seconds for leak in leaks]),
        ],
        claims=[
            Claim(f"the median PSNR is {middle:.1f} dB, at least {LEAST:.0f}", middle >= LEAST),
            Claim(
                f"all {len(leaks)} images that were drawn are in it",
                len(leaks) == IMAGES * len(seeds),
            ),
        ],
    )


def _of_image(leak: LeakageRow, place: int) -> Figure:
    return Figure(f"PSNR, seed {place // IMAGES}, client {leak.client}", "dB", [leak.psnr])
