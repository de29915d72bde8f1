"""The learned inverter beside ``auto`` under five defenses, and the certified ceiling above it.

Every client sends the gradient of one image of an untrained network. Both attackers know the labels
and adapt to the defense: one trains a network on simulated clients, once for each defense, the
other searches for each image with settings that it chose on simulated clients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, median

from pydantic import TypeAdapter

from benchmarks.ceilings import SIGNIFICANT
from benchmarks.kept import Kept, stamp
from benchmarks.options import Options, data_sets
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.defenses import Defense
from fedlab.defenses.clip_noise import ClipNoise
from fedlab.defenses.dp_instahide import DPInstaHide
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.defenses.pruning import Pruning
from fedlab.defenses.quantisation import Quantisation
from fedlab.metrics.intervals import share_interval
from fedlab.metrics.verdict import LEAKS, RECOGNISABLE
from fedlab.results.rows import LeakageRow
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Data, Engine, Model, Reconstruct
from fedlab.simulation.federation import Federation

SETS = ("fashion_mnist", "cifar10")
IMAGES, SHARD, PUBLIC = 40, 4, 10_000
"""Attacked images of each arm, images of a client, and public images."""

WIDTH = 8
"""Width of the ``convnet``."""

EXAMPLES, EPOCHS = 4_096, 16
"""Simulated clients of the learned inverter, and the most epochs on them."""

ITERATIONS, TUNING = 80, 640
"""Iterations of ``auto`` on an image, and on simulated clients of each defense."""

LEARNED, AUTO = "learned", "auto"

DP_SGD = "DP-SGD"
DEFENSES: Mapping[str, tuple[Defense, ...]] = {
    "open": (),
    "signs": (Quantisation(bits=1),),
    "pruning 99 %": (Pruning(share=0.99),),
    "clip-noise": (ClipNoise(clipping_norm=1.0, noise_multiplier=0.01),),
    DP_SGD: (DPSGD(noise_multiplier=0.5, clipping_norm=1.0),),
    "DP-InstaHide": (DPInstaHide(k=SHARD),),
}
"""Defenses by the name of their arm."""


Rows = dict[str, list[LeakageRow]]


@dataclass(frozen=True)
class Arm:
    """What both attackers did to the images of one data set under one defense.

    Attributes:
        name: Data set and defense.
        defense: Name of the defense.
        rows: Scores of all images by preset.
    """

    name: str
    defense: str
    rows: Rows

    def figures(self) -> list[Figure]:
        """PSNR, grades and seconds of both attackers, with chance."""
        chance = [row.chance_psnr for row in self.rows[LEARNED]]
        found = [Figure(f"{self.name}: chance PSNR", "dB", chance)]
        for preset, rows in self.rows.items():
            title = f"{self.name}, {preset}"
            found += [
                Figure(f"{title}: PSNR", "dB", [row.aligned_psnr for row in rows]),
                Figure(f"{title}: leaks", "", [float(row.verdict == LEAKS) for row in rows]),
                Figure(
                    f"{title}: recognisable",
                    "",
                    [float(row.verdict == RECOGNISABLE) for row in rows],
                ),
                Figure(f"{title}: preparation", "s", [sum(row.tuning_seconds for row in rows)]),
                Figure(f"{title}: an image", "s", [row.seconds for row in rows]),
            ]
        if self.defense == DP_SGD:
            ceiling = [row.ceiling_identified for row in self.rows[LEARNED]]
            found.append(Figure(f"{self.name}: ceiling of identified", "", ceiling))
            for preset, rows in self.rows.items():
                hits = [row.iip for row in rows]
                found.append(Figure(f"{self.name}, {preset}: identified", "", hits))
        return found

    def leaks(self, preset: str) -> int:
        """Number of images that leak to an attacker."""
        return sum(row.verdict == LEAKS for row in self.rows[preset])

    def above_ceiling(self, preset: str) -> bool:
        """True if significantly more images are identified than any attack can, or better ones."""
        rows = self.rows[preset]
        hits = [int(row.iip) for row in rows]
        low, _ = share_interval(hits, [1] * len(hits), level=SIGNIFICANT)
        too_often = low > fmean(row.ceiling_identified for row in rows)
        return too_often or fmean(r.psnr for r in rows) > fmean(r.ceiling_psnr for r in rows)

    def line(self) -> str:
        """Median PSNR and leaks in a line."""
        parts = [f"chance {median(row.chance_psnr for row in self.rows[LEARNED]):.1f} dB"]
        for preset, rows in self.rows.items():
            psnr = median(row.aligned_psnr for row in rows)
            seconds = sum(row.tuning_seconds + row.seconds for row in rows)
            parts.append(f"{preset} {psnr:.1f} dB, {self.leaks(preset)} leak, {seconds:.0f} s")
        return f"{self.name}: {'; '.join(parts)}"


def scenario(source: str, defenses: Sequence[Defense], *, images: int, device: str) -> Scenario:
    """One round in which every client leaks the gradient of one image to both attackers."""
    return Scenario(
        name="learned inverter",
        seed=0,
        rounds=1,
        data=Data(source=source, train=SHARD * images, test=PUBLIC, clients=images),
        model=Model(name="convnet", width=WIDTH),
        roles=(Leaking(batch_size=1),),
        reconstructions=(
            Reconstruct(preset=LEARNED, iterations=EPOCHS, tuning_iterations=EXAMPLES, power=False),
            Reconstruct(preset=AUTO, iterations=ITERATIONS, tuning_iterations=TUNING, power=False),
        ),
        engine=Engine(device=device, threads=THREADS, workers=1),
    ).changed(defenses=[each.model_dump() for each in defenses])


def attacked(source: Path, defense: str, *, images: int, device: str) -> Rows:
    """Scores of both attackers on the images of a data set under one defense, by preset.

    Args:
        source: File with the data set.
        defense: Key of ``DEFENSES``.
        images: Number of images.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    made = scenario(f"npz:{source}", DEFENSES[defense], images=images, device=device)
    rows: Rows = {LEARNED: [], AUTO: []}
    for row in Federation(made).step().leakage:
        if row.target == "original":
            rows[row.preset].append(row)
    return rows


def run(options: Options) -> Report:
    """Attack the images of both data sets under every defense.

    Raises:
        BadInput: If there is no folder with the data sets.
    """
    files = data_sets(options, SETS)
    images, arms = options.repeats or IMAGES, []
    keep = Kept(options.cells, stamp(*files, Path(__file__)), TypeAdapter(Rows))
    for source, defense in product(files, DEFENSES):
        name = f"{source.stem}, {defense}"
        if name not in keep.results:
            keep.add(name, attacked(source, defense, images=images, device=options.device))
        arms.append(Arm(name, defense, keep.results[name]))
        console.print(arms[-1].line(), highlight=False, soft_wrap=True)
    return Report(
        title="What does a learned inverter find under each defense, and is it below the ceiling?",
        settings={
            "images": f"{images} training images, one gradient each, labels known",
            "public": f"{PUBLIC:,} test images",
            "network": f"convnet of width {WIDTH}, untrained",
            "learned": f"{EXAMPLES:,} simulated clients, at most {EPOCHS} epochs",
            "auto": f"{ITERATIONS} iterations, {TUNING:,} to choose settings",
            "PSNR": "aligned, as the verdict compares it with chance",
            "identified": "nearest of 100 images of its class",
        },
        figures=[figure for arm in arms for figure in arm.figures()],
        claims=_claims(arms),
    )


def _claims(arms: Sequence[Arm]) -> list[Claim]:
    private = [arm for arm in arms if arm.defense == DP_SGD]
    above = sum(arm.above_ceiling(preset) for arm in private for preset in arm.rows)
    pairs = sum(len(arm.rows) for arm in private)
    return [
        Claim(
            f"under DP-SGD {above} of {pairs} attacks identify significantly more images than any "
            "attack can, or exceed the certified PSNR",
            not above,
        )
    ]
