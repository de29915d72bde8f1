"""What secure aggregation hides: sums of five clients, unmixed, and one client read out of ten.

The first attacker obeys the protocol, and takes the sum apart as one large batch. The second is
malicious and suppresses the gradients of all clients but one; its control is the same client
without secure aggregation. Noise that the clients of the sum share is the answer to it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.options import Options, data_sets
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.defenses.clip_noise import ClipNoise
from fedlab.privacy.accounts import CLIENT
from fedlab.results.rows import LeakageRow
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture
from fedlab.server.suppression import singled_out
from fedlab.simulation.federation import Federation

SETS = ("mnist", "cifar10")
SIZES = (4, 8, 16)
SUMMED, SINGLED, BATCH, SEEDS = 5, 10, 4, 3
"""Clients of a sum that is unmixed, and of one that is suppressed; images of each client there, and
seeds."""

NORM, SURVIVORS = 1.0, 8
NOISES = (0.01, 0.1, 1.0)
"""Noise multipliers that ``SURVIVORS`` clients share, after clipping to ``NORM``."""

UNITS = 256
QUIET: Mapping[str, Any] = {"labels": "inferred", "power": False}
SECURE = {"name": "secure-aggregation"}
SUPPRESSION = {"malicious": {"attack": "suppression", "clients": "0"}}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "mlp": {"name": "mlp", "width": UNITS},
    "convnet with a head": {"name": "factory", "factory": "benchmarks.secure_sum:headed"},
}

CLOSE = 1e-4
"""Largest relative error of any tensor of the singled-out update, but for the last bias."""

NEAR = 1.5
"""Largest difference in dB between the median PSNR of the target in a sum and alone."""


def headed(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Two convolutions of stride 2 and two fully connected layers, each but the last with ReLU."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2, stride=2),
        nn.ReLU(),
        nn.Conv2d(32, 32, 5, padding=2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * -(-height // 4) * -(-width // 4), UNITS),
        nn.ReLU(),
        nn.Linear(UNITS, classes),
    )


def run(options: Options) -> Report:
    """Attack all sums.

    Raises:
        BadInput: If there is no folder with the data sets.
    """
    torch.set_num_threads(THREADS)
    files = data_sets(options, SETS)
    figures = list(unmixed(files, options.device))
    apart, errors = suppressed(files[-1], options)
    figures += apart
    figures += noised(files[-1], options)
    sums, alone = (median(each.values) for each in apart[:2])
    return Report(
        title="What does secure aggregation hide?",
        settings={
            "unmixed": f"sums of {SUMMED} clients, cocktail-party, labels inferred, untrained mlp "
            f"of width {UNITS}, and two convolutions with two fully connected layers",
            "suppressed": f"sums of {SINGLED} clients of {BATCH} images, untrained convnet of "
            f"width 32, preset fast, labels inferred, {options.repeats or SEEDS} seeds",
            "shared noise": f"clip-noise of norm {NORM:g}, shared by {SURVIVORS} of {SINGLED}, the "
            "same sums, suppressed, preset auto",
            "images": "training images drawn by seed, none left out",
        },
        figures=figures,
        claims=[
            Claim.at_most("relative error of a tensor of the target's update", max(errors), CLOSE),
            Claim(
                f"the target's median PSNR is {sums:.1f} dB in a sum and {alone:.1f} dB alone, at "
                f"most {NEAR:g} dB apart",
                abs(sums - alone) <= NEAR,
            ),
        ],
    )


def unmixed(files: Sequence[Path], device: str) -> Iterator[Figure]:
    """Figures of the Cocktail Party Attack on sums of clients."""
    for file in files:
        for network, model in NETWORKS.items():
            for size in SIZES:
                planned = _scenario(file, SUMMED, size, model, device).changed(
                    defenses=[SECURE],
                    reconstructions=[{"preset": "cocktail-party", **QUIET}],
                )
                rows = Federation(planned).step().leakage
                yield from _figures(f"{file.stem}, {network}, {SUMMED} x {size}", rows)


def suppressed(file: Path, options: Options) -> tuple[list[Figure], list[float]]:
    """Figures of one client of a suppressed sum and alone, and errors of its update."""
    rows: dict[str, list[LeakageRow]] = {"in a sum": [], "alone": []}
    errors = []
    for seed in range(options.repeats or SEEDS):
        open_run = _singled(file, seed, options.device).changed(
            captures={"keep": "all"},
            reconstructions=[{"clients": "0", "preset": "fast", **QUIET}],
        )
        summed = open_run.changed(defenses=[SECURE], server=SUPPRESSION)
        seen = []
        for name, planned in zip(rows, (summed, open_run), strict=True):
            federation = Federation(planned)
            rows[name] += federation.step().leakage
            capture = Capture.load(federation.folder.captures, round=1, client=0)
            seen.append(singled_out(capture).payload.tensors)
        target, true = seen
        errors += [float((t - true[n]).norm() / true[n].norm()) for n, t in target.items()]
    parts = [list(_figures(f"{file.stem}, {name}", found)) for name, found in rows.items()]
    first = [figures.pop(0) for figures in parts]
    name = "largest relative error of a tensor"
    return [*first, *parts[0], *parts[1], Figure(name, "", [max(errors)])], errors


def noised(file: Path, options: Options) -> Iterator[Figure]:
    """Figures of the client that suppression leaves, when all clients share noise."""
    for noise in NOISES:
        rows: list[LeakageRow] = []
        epsilons = []
        shared = ClipNoise(
            clipping_norm=NORM, noise_multiplier=noise, noise_shared_by=SURVIVORS
        ).model_dump()
        for seed in range(options.repeats or SEEDS):
            planned = _singled(file, seed, options.device).changed(
                defenses=[shared, SECURE],
                server=SUPPRESSION,
                reconstructions=[{"clients": "0", "preset": "auto", **QUIET}],
            )
            federation = Federation(planned)
            rows += federation.step().leakage
            epsilons.append(federation.ledger.total(0, CLIENT))
        name = f"{file.stem}, in a sum with shared noise {noise:g}"
        yield from _figures(name, rows)
        yield Figure(f"{name}: epsilon of a round", "", epsilons[:1])


def _singled(file: Path, seed: int, device: str) -> Scenario:
    model = {"name": "convnet", "width": 32}
    return _scenario(file, SINGLED, BATCH, model, device).changed(seed=seed)


def _scenario(
    file: Path, clients: int, size: int, model: Mapping[str, Any], device: str
) -> Scenario:
    return Scenario(
        name="secure sum",
        data={"source": f"npz:{file}", "clients": clients},
        model=dict(model),
        roles=[{"role": "leaking", "batch_size": size}],
        engine={"device": device, "threads": THREADS, "workers": 1},
    )


def _figures(name: str, rows: Sequence[LeakageRow]) -> Iterator[Figure]:
    """PSNR first, then chance, and which images leak."""
    leaks = [float(row.verdict == "leaks") for row in rows]
    found = [float(row.verdict == "recognisable") for row in rows]
    console.print(f"{name}: {sum(leaks):.0f} of {len(rows)} leak", soft_wrap=True)
    yield Figure(f"{name}: PSNR", "dB", [row.aligned_psnr for row in rows])
    yield Figure(f"{name}: chance PSNR", "dB", [row.chance_psnr for row in rows])
    yield Figure(f"{name}: leaks", "", leaks)
    yield Figure(f"{name}: recognisable", "", found)
    yield Figure(f"{name}: an attack", "s", [rows[0].seconds])
