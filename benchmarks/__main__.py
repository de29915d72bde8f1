"""The command line: ``python -m benchmarks NAME`` runs one, without a name it lists them."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks.options import Options
from benchmarks.report import Report, console
from fedlab.core.errors import BadInput, RunFailed

BENCHMARKS = {
    "federation": "time and memory of 20 rounds beside a bare PyTorch loop, and on Ray",
    "gpu": "time of a round of ResNet-18 clients: computed, recorded, in lockstep, under DP-SGD",
    "scale": "time and memory of 100 and of 10,000 clients, and of 1,000 rounds",
    "cifar": "PSNR of single CIFAR-10 images rebuilt from their gradients",
    "defended": "the same CIFAR-10 images open, under DP-SGD and under DP-InstaHide",
    "defenses": "what each defense costs and stops: accuracy, backdoor, PSNR, epsilon, time",
    "compared": "defenses that papers compare with: accuracy, leaks to three attacks, time",
    "poisoning": "which poisons work, what stops them, and a crafting step's time beside ART's",
    "rules": "what the rules of newer benches stop: FLAME, DnC, FoolsGold, Bucketing, Neurotoxin",
    "reconstruction": "the attacker beside breaching's: time for an iteration, PSNR, time to it",
    "attack_step": "an attack's step beside a forward pass and a minimal step in plain PyTorch",
    "ceilings": "identification under DP-SGD below its certified ceiling, by two attackers",
    "flower_app": "what a server sees of a plain Flower app, by the training of its clients",
    "spear": "how large a batch SPEAR separates at a fully connected layer, and in which time",
    "weight_check": "which manipulated weights a client detects, at 5 % false alarms",
    "joint": "several rounds attacked jointly, and long local training as one gradient",
    "graph": "super-pixels: energy, time, memory; whether outlines leak; a prior for attacks",
    "decoder": "an untrained generator beside a search for pixels, on noisy and pruned gradients",
    "labels": "how often each label rule finds all labels of a batch, on three data sets",
    "learned": "the learned inverter beside auto under five defenses, and below the ceiling",
    "long": "what thousands of iterations rebuild, on an untrained and a trained network (GPU)",
    "noisy_traps": "how many images leak to trap weights under noise, beside the least error",
    "seed_papers": "four seed papers again, at larger budgets: poisons, defenses, random steps",
    "secure_sum": "what secure aggregation hides: sums unmixed, and one client read out",
    "strongest": "the self-tuning attack beside all presets and breaching, under each defense",
    "theory": "what norm, start, tangent kernel and rank do to accuracy and leakage",
    "traps": "how many images leak to trap weights, of one client and in a secure sum of five",
    "tuned": "the self-tuning attack at equal time beside breaching, and beside its own best",
    "tuning": "which settings suit each attacker, on images that the comparison never shows",
}
"""What the module of each name measures; its ``run`` turns Options into a Report."""

SYNTHETIC = ("federation", "scale", "attack_step", "ceilings", "flower_app")
"""Benchmarks that make their own images, or take digits of scikit-learn, on the CPU."""

PICTURED = ("cifar", "ceilings", "defended", "long")
"""Benchmarks that draw a picture."""

RESUMED = ("decoder", "joint", "learned", "strongest", "theory", "tuned")
"""Benchmarks that go on where a killed run stopped."""

RESULTS = Path(__file__).resolve().parent / "results"

complaints = Console(stderr=True, soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark.

    Args:
        arguments: Command line arguments; those of this process unless given.

    Returns:
        0 if every claim held, 1 if one did not or the run failed, 2 for bad input.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure what fedlab costs and what leaks."
    )
    parser.add_argument("name", nargs="?", help="name of the benchmark; without it all are listed")
    own = "number of repeats, at least 1; by default the benchmark's own"
    parser.add_argument("--repeats", type=int, help=own)
    parser.add_argument("--out", type=Path, help="JSON file; by default in benchmarks/results/")
    parser.add_argument("--data", type=Path, help=".npz of CIFAR-10, or a folder of .npz files")
    parser.add_argument("--picture", type=Path, help="PNG file to write")
    parser.add_argument("--photo", type=Path, help="photograph to attack too (reconstruction)")
    parser.add_argument("--device", default="cpu", help="device: cpu (default), cuda or cuda:N")
    some = "networks to measure, separated by commas; by default all (tuned)"
    parser.add_argument("--networks", help=some)
    kept = f"file that keeps finished parts, so that a killed run goes on ({', '.join(RESUMED)})"
    parser.add_argument("--cells", type=Path, help=kept)
    given = parser.parse_args(arguments)
    if given.name is None:
        for name, line in BENCHMARKS.items():
            console.print(f"{name:<16}{line}", highlight=False)
        return 0
    try:
        options = Options(**{each.name: getattr(given, each.name) for each in fields(Options)})
        report = run(given.name, options)
    except (BadInput, RunFailed) as error:
        complaints.print(str(error), markup=False)
        return 2 if isinstance(error, BadInput) else 1
    console.print(report.table())
    on_gpu = "" if options.device == "cpu" else "-gpu"
    out: Path = given.out or RESULTS / f"{given.name}{on_gpu}.json"
    report.save(out, command=f"python -m benchmarks {given.name}{options}")
    console.print(f"figures: {out}", soft_wrap=True)
    return 0 if report.holds else 1


def run(name: str, options: Options) -> Report:
    """Run one benchmark and return its figures.

    Raises:
        BadInput: If there is no such benchmark, or it cannot work with these options.
    """
    if name not in BENCHMARKS:
        raise BadInput(f'there is no benchmark "{name}"; known: {", ".join(BENCHMARKS)}')
    if options.data and name in SYNTHETIC:
        raise BadInput(f"--data is not for the benchmark {name}, which makes its own images")
    if options.device != "cpu" and name in SYNTHETIC:
        raise BadInput(f"--device is not for the benchmark {name}, which runs on the CPU")
    if options.photo and name != "reconstruction":
        raise BadInput("--photo is for the benchmark reconstruction")
    if options.networks and name != "tuned":
        raise BadInput("--networks is for the benchmark tuned")
    if options.cells and name not in RESUMED:
        raise BadInput(f"--cells is for the benchmarks {', '.join(RESUMED)}")
    if options.picture and name not in PICTURED:
        raise BadInput(f"--picture is for the benchmarks {', '.join(PICTURED)}")
    report: Report = import_module(f"benchmarks.{name}").run(options)
    return report


if __name__ == "__main__":
    sys.exit(main())
