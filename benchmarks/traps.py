"""How many images leak to trap weights, of one client and in a secure sum of five.

Beside it stands what the papers' formula expects: of N units that each image activates with
probability 1/B, independently, N (1 - 1/B)^(B - 1) are activated by one image of B.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean

import torch

from attacks.malicious_server.passed_image import layer_input
from benchmarks.options import Options, data_sets
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.evaluation.leaks import Leak
from fedlab.results.rows import LeakageRow
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture
from fedlab.simulation.federation import Federation

SETS = ("mnist", "cifar10")
RULES = ("quantile", "halves")
SIZES = (4, 16, 64)
SUMMED, LEAST, UNITS = 5, 40, 1000
"""Clients of a sum; smallest number of attacked images; units of the layer, as in the papers."""

LAYER = "1"
"""Name of the first layer of the mlp."""

EXACT = 60.0
"""PSNR in dB above which an image counts as exact: an error of a quarter of a grey level."""

ENOUGH = 0.9
"""Share of images in batches of four that must leak to each rule."""


@dataclass
class Measured:
    """What attacks on batches of one size found.

    Attributes:
        rows: Scores of all images.
        alone: Number of units that one image activates, for each batch or sum.
    """

    rows: list[LeakageRow] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)


def run(options: Options) -> Report:
    """Attack all batches and sums.

    Raises:
        BadInput: If there is no folder with the data sets.
    """
    torch.set_num_threads(THREADS)
    files = data_sets(options, SETS)
    figures: list[Figure] = []
    claims: list[Claim] = []
    for file, size, clients in product(files, SIZES, (1, SUMMED)):
        shares = {}
        for rule in RULES:
            found = measured(file, rule, size, clients, options.device)
            leaks, *others = _figures(
                f"{file.stem}, {rule}, {clients} x {size}", found, clients * size
            )
            figures += [leaks, *others]
            shares[rule] = fmean(leaks.values)
        kind = f"{file.stem}, {clients} x {size}"
        if clients * size == min(SIZES):
            least = min(shares.values())
            claims.append(Claim(f"{kind}: a share of {least:.3f} leaks", least >= ENOUGH))
        if size == max(SIZES):
            more, fewer = shares["quantile"], shares["halves"]
            claims.append(
                Claim(f"{kind}: quantile leaks {more:.2f}, halves {fewer:.2f}", more > fewer)
            )
    return Report(
        title="How many images leak to trap weights?",
        settings={
            "network": f"untrained mlp of width {UNITS}, gradients of one batch, labels inferred",
            "traps": "made for the number of images in the batch or the sum, with public images",
            "expected": "share of images that are alone in a unit if images activate units "
            "independently: 1 - (1 - (1 - 1/B)^(B - 1) / B)^N",
            "images": f"training images drawn by seed, none left out, at least {LEAST} in each row",
        },
        figures=figures,
        claims=claims,
    )


def measured(file: Path, rule: str, size: int, clients: int, device: str) -> Measured:
    """Attack clients alone, or secure sums of several, until enough images were attacked."""
    found, seed = Measured(), 0
    while len(found.rows) < LEAST:
        planned = Scenario(
            name="traps",
            seed=seed,
            data={"source": f"npz:{file}", "clients": SUMMED},
            model={"name": "mlp", "width": UNITS},
            server={"malicious": {"attack": "trap-weights", "rule": rule}},
            defenses=[{"name": "secure-aggregation"}] if clients > 1 else [],
            roles=[{"role": "leaking", "batch_size": size}],
            captures={"keep": "all"},
            engine={"device": device, "threads": THREADS, "workers": 1},
        )
        federation = Federation(planned)
        federation.step()
        for client in range(1 if clients > 1 else SUMMED):
            leak = federation.reconstruct(round=1, client=client, labels="inferred", power=False)
            found.rows += leak.rows
            found.alone.append(_alone(federation, leak, client))
            if len(found.rows) >= LEAST:
                break
        seed += 1
    return found


def expected_alone(units: int, images: int) -> float:
    """Expected number of units that one image activates, of images that do so with 1/images."""
    return float(units * (1 - 1 / images) ** (images - 1))


def expected_share(units: int, images: int) -> float:
    """Expected share of images that are alone in at least one unit."""
    return float(1 - (1 - (1 - 1 / images) ** (images - 1) / images) ** units)


def _alone(federation: Federation, leak: Leak, client: int) -> float:
    """Number of units that one of the true images activates."""
    state = Capture.load(federation.folder.captures, round=1, client=client).global_state
    federated = federation.federated
    images = federated.data.normalise(leak.originals.to(federated.device))
    sent = {name: tensor.to(images.device) for name, tensor in state.items()}
    inputs = layer_input(federated.model, sent, LAYER, images)
    active = inputs @ sent[f"{LAYER}.weight"].T + sent[f"{LAYER}.bias"] > 0
    return float((active.sum(0) == 1).sum())


def _figures(name: str, found: Measured, images: int) -> Iterator[Figure]:
    rows = found.rows
    leaks = [float(row.verdict == "leaks") for row in rows]
    exact = [float(row.psnr > EXACT) for row in rows]
    expected = expected_share(UNITS, images)
    console.print(
        f"{name}: {sum(leaks):.0f} of {len(rows)} leak, {sum(exact):.0f} exact, "
        f"{expected * len(rows):.0f} expected",
        soft_wrap=True,
    )
    yield Figure(f"{name}: leaks", "", leaks)
    yield Figure(f"{name}: exact", "", exact)
    yield Figure(f"{name}: expected", "", [expected])
    yield Figure(f"{name}: units with one image", "", found.alone)
    yield Figure(f"{name}: expected units", "", [expected_alone(UNITS, images)])
    yield Figure(f"{name}: labels", "", [float(bool(row.label_correct)) for row in rows])
    yield Figure(f"{name}: chance PSNR", "dB", [row.chance_psnr for row in rows])
