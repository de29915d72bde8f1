"""The same photographs rebuilt from an open update, from DP-SGD and from DP-InstaHide.

Six clients leak one image each in the first round of three federations that differ in the defense
only; the attacker adapts to each.
"""

from statistics import median

from benchmarks.cifar import scenario as leaking
from benchmarks.options import Options, cifar
from benchmarks.report import Claim, Figure, Report, console
from fedlab.defenses import Defense
from fedlab.defenses.dp_instahide import DPInstaHide
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.report.figures.leaks import picture_of
from fedlab.report.figures.reconstructions import save
from fedlab.results.rows import LeakageRow
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.federation import Federation

CLIENTS = 6
ABOVE_CHANCE = 2.0
"""dB by which DP-SGD may leave an image above chance."""

ARMS: dict[str, tuple[Defense, ...]] = {
    "open": (),
    "DP-SGD": (DPSGD(noise_multiplier=1.0, clipping_norm=1.0),),
    "DP-InstaHide": (DPInstaHide(k=4),),
}


def scenario(source: str, defenses: tuple[Defense, ...], device: str) -> Scenario:
    """A scenario of one round in which every client leaks one image, as in ``cifar``."""
    return leaking(source, 0, device).changed(
        name="the same images under each defense",
        data={"source": source, "clients": CLIENTS},
        defenses=[entry.model_dump() for entry in defenses],
    )


def run(options: Options) -> Report:
    """Rebuild the images under each defense.

    Raises:
        BadInput: If there are no images.
    """
    source = f"npz:{cifar(options)}"
    federations = {
        arm: Federation(scenario(source, defenses, options.device))
        for arm, defenses in ARMS.items()
    }
    rows: dict[str, list[LeakageRow]] = {}
    for arm, federation in federations.items():
        rows[arm] = [row for row in federation.step().leakage if row.target == "original"]
    if options.picture:
        files = [file for each in federations.values() for file in each.folder.leak_files]
        save(picture_of(files, name="one photograph of each client"), options.picture)
        console.print(f"picture: {options.picture}", soft_wrap=True)
    above = median(row.psnr - row.chance_psnr for row in rows["DP-SGD"])
    return Report(
        title="What does each defense hide of the same images?",
        settings={
            "images": "CIFAR-10, one of each of six clients, by seed",
            "network": "convnet of width 64, untrained",
            "attack": "inverting-gradients, 400 iterations, labels known, re-tuned per defense",
            "defenses": "DP-SGD: noise 1, clipping 1; DP-InstaHide: k = 4, Laplace 16/255",
        },
        figures=[
            Figure(f"{arm}: {name}", unit, [getattr(row, column) for row in found])
            for arm, found in rows.items()
            for name, unit, column in (
                ("PSNR", "dB", "psnr"),
                ("SSIM", "", "ssim"),
                ("chance PSNR", "dB", "chance_psnr"),
            )
        ],
        claims=[
            Claim(
                f"under DP-SGD the median image is {above:+.1f} dB from chance, "
                f"at most {ABOVE_CHANCE:+.0f}",
                above <= ABOVE_CHANCE,
            )
        ],
    )
