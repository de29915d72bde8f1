"""How many images leak to trap weights under noise, to a read-out that adapts to it or does not.

Beside it stands the PSNR of the least error that the noise allows an unbiased estimate: with the
shares S of the images in the units, all known, the variance of an image is that of the noise times
its entry in the diagonal of the inverse of S'S (Gauss and Markov).
"""

import math
from itertools import product

import torch
from torch import Tensor

from attacks.malicious_server.gaussian_prior import GaussianPrior
from attacks.malicious_server.noisy_traps import TrapLayer
from benchmarks.options import Options, cifar
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.evaluation.leaks import Leak
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture
from fedlab.simulation.federation import Federation

UNITS, SIZE, SUMMED = 1000, 16, 5
"""Units of the layer, images of a batch, and clients of a sum."""

NOISES = (0.0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3)
"""Noise multipliers of clip-noise at the clipping norm 1, to which no update is shortened."""

LAYER = "1"
"""Name of the first layer of the mlp."""


def run(options: Options) -> Report:
    """Attack one client and a sum of five, under each noise.

    Raises:
        BadInput: If there is no file with CIFAR-10.
    """
    torch.set_num_threads(THREADS)
    figures: list[Figure] = []
    claims: list[Claim] = []
    sources = {"digits": "digits", "cifar10": f"npz:{cifar(options)}"}
    for (name, source), clients, noise in product(sources.items(), (1, SUMMED), NOISES):
        federation = _federation(source, clients, noise, options.device)
        case = f"{name}, {clients} x {SIZE}, noise {noise:g}"
        found = {}
        for kind in ("adapted", "plain"):
            found[kind] = federation.reconstruct(
                round=1, client=0, labels="inferred", power=False, adapt=kind == "adapted"
            )
            rows = found[kind].rows
            leaks = [float(row.verdict == "leaks") for row in rows]
            figures.append(Figure(f"{case}, {kind}: leaks", "", leaks))
            rebuilt = [row.psnr for row in rows if math.isfinite(row.psnr)]
            figures.append(Figure(f"{case}, {kind}: PSNR", "dB", rebuilt))
            console.print(f"{case}, {kind}: {sum(leaks):.0f} of {len(rows)} leak", soft_wrap=True)
        if noise:
            least = _least_error(federation, found["plain"])
            figures.append(Figure(f"{case}: PSNR of the least error", "dB", least))
        adapted, plain = (
            sum(row.verdict == "leaks" for row in found[kind].rows) for kind in ("adapted", "plain")
        )
        claims.append(
            Claim(f"{case}: {adapted} leak to the adapted, {plain} to the plain", adapted >= plain)
        )
    return Report(
        title="How many images leak to trap weights under noise?",
        settings={
            "network": f"untrained mlp of width {UNITS}, gradients of one batch, labels inferred",
            "noise": "clip-noise at the clipping norm 1; in a sum each client adds its own",
            "images": f"{SIZE} of one client, or {SUMMED * SIZE} of a secure sum",
        },
        figures=figures,
        claims=claims,
    )


def _federation(source: str, clients: int, noise: float, device: str) -> Federation:
    """A federation after the round in which trap weights were sent."""
    secure = [{"name": "secure-aggregation"}] if clients > 1 else []
    planned = Scenario(
        name="noisy_traps",
        data={"source": source, "clients": SUMMED},
        model={"name": "mlp", "width": UNITS},
        server={"malicious": {"attack": "trap-weights"}},
        defenses=[{"name": "clip-noise", "noise_multiplier": noise}, *secure],
        roles=[{"role": "leaking", "batch_size": SIZE}],
        captures={"keep": "all"},
        engine={"device": device, "threads": THREADS, "workers": 1},
    )
    federation = Federation(planned)
    federation.step()
    return federation


def _least_error(federation: Federation, leak: Leak) -> list[float]:
    """PSNR in dB of the least error of each image; 0 dB for images that activate no unit."""
    capture = Capture.load(federation.folder.captures, round=1, client=0)
    data, device = federation.federated.data, federation.federated.device
    images = data.normalise(leak.originals.to(device))
    black = torch.zeros((1, *data.shape), device=device)
    layer = TrapLayer(
        federation.federated.model,
        {name: tensor.to(device) for name, tensor in capture.global_state.items()},
        LAYER,
        shape=data.shape,
        classes=data.num_classes,
        low=data.normalise(black),
        high=data.normalise(black + 1),
        prior=GaussianPrior.of(images),
    )
    shares = layer.shares(images)[torch.arange(len(images)), _labels(federation, leak.originals)]
    shares = shares.double() / len(images)
    inverse = torch.linalg.pinv(shares @ shares.T).diagonal()
    scale = torch.tensor(data.std).square().mean()
    error = capture.facts.update_noise**2 * float(scale) * inverse
    decibels = torch.where(shares.any(1), -10 * error.log10(), 0.0)
    return [float(each) for each in decibels]


def _labels(federation: Federation, originals: Tensor) -> Tensor:
    """Labels of true images, int64 ``[n]``."""
    data = federation.federated.data
    known = data.pixels(data.train_images).cpu().flatten(1)
    places = torch.cdist(originals.flatten(1), known).argmin(1)
    return data.train_labels.cpu()[places]
