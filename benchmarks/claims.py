"""Check the figures that README and docs quote: ``python -m benchmarks.claims``.

The short form compares texts with the committed results. ``--again`` runs the benchmarks again and
compares their medians with the range of the committed results.
"""

import argparse
import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.__main__ import RESULTS
from benchmarks.__main__ import main as benchmark
from benchmarks.report import console

ROOT = Path(__file__).resolve().parents[1]
REGISTRY = Path(__file__).resolve().parent / "claims.toml"

NUMBER = re.compile(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?(?![\w.]*\d)")
"""A number in a text that is not part of a word such as 28x28 or ResNet-18."""

MIB_TO_GIB = " / 1024"
"""End of the name of a value in MiB that a text quotes in GiB."""

Figure = Mapping[str, float]


@dataclass(frozen=True)
class Claim:
    """A quoted text and the measured values that it repeats.

    Attributes:
        page: Path of the page, from the root of the repository.
        result: Name of a file of ``benchmarks/results``, without its ending.
        quote: Text of the page.
        values: For each number of the quote the name of a value, such as ``PSNR.median``, which
            `` / 1024`` divides; empty for a number that is no measurement.
    """

    page: str
    result: str
    quote: str
    values: tuple[str, ...]


def registered() -> list[Claim]:
    """The claims of ``claims.toml``."""
    entries = tomllib.loads(REGISTRY.read_text(encoding="utf-8"))["claims"]
    return [Claim(e["page"], e["result"], e["quote"], tuple(e["values"])) for e in entries]


def figures_of(file: Path) -> dict[str, Figure]:
    """The figures of a result by name, each with ``median``, ``min``, ``max`` and ``n``."""
    return {f["name"]: f for f in json.loads(file.read_text(encoding="utf-8"))["figures"]}


def mistakes(claim: Claim, text: str, figures: Mapping[str, Figure]) -> list[str]:
    """Reasons why a claim does not hold; empty if each number is the rounded value.

    Args:
        claim: The claim.
        text: Text of its page.
        figures: Figures of its result.

    Example:
        >>> figures = {"PSNR": {"median": 49.291, "min": 39.12, "max": 56.08, "n": 8}}
        >>> claim = Claim("docs/figures.md", "cifar", "PSNR 49.4 dB", ("PSNR.median",))
        >>> mistakes(claim, "It reaches PSNR 49.4 dB.", figures)
        ['docs/figures.md: "49.4" in "PSNR 49.4 dB", but PSNR.median of cifar is 49.291']
    """
    if " ".join(claim.quote.split()) not in " ".join(text.split()):
        return [f'{claim.page} does not say "{claim.quote}"']
    numbers = NUMBER.findall(claim.quote)
    if len(numbers) != len(claim.values):
        return [f'"{claim.quote}" has {len(numbers)} numbers, not {len(claim.values)}: {numbers}']
    found = []
    for number, name in zip(numbers, claim.values, strict=True):
        if not name:
            continue
        try:
            value = _value(name, figures)
        except KeyError:
            found.append(f'{claim.result} measures no "{name}"')
            continue
        decimals = len(number.partition(".")[2])
        if abs(float(number.replace(",", "")) - value) > 0.5001 * 10**-decimals:
            found.append(
                f'{claim.page}: "{number}" in "{claim.quote}", but {name} of {claim.result} is '
                f"{value:g}"
            )
    return found


def moved(
    claim: Claim, figures: Mapping[str, Figure], again: Mapping[str, Figure]
) -> Iterable[str]:
    """Means and medians of a claim that were measured again and left the committed range.

    Args:
        claim: The claim.
        figures: Figures of the committed result.
        again: Figures of the new result.
    """
    for name in filter(None, claim.values):
        figure, _, kind = name.removesuffix(MIB_TO_GIB).rpartition(".")
        old, new = figures[figure], again.get(figure)
        if kind not in ("mean", "median"):
            continue
        if new is None or not old["min"] <= new[kind] <= old["max"]:
            now = "not measured" if new is None else f"{new[kind]:g}"
            yield f"{claim.result}, {figure}: {now}, was {old['min']:g} to {old['max']:g}"


def check() -> list[str]:
    """Compare all pages with the committed results."""
    return [
        mistake
        for claim in registered()
        for mistake in mistakes(
            claim,
            (ROOT / claim.page).read_text(encoding="utf-8"),
            figures_of(RESULTS / f"{claim.result}.json"),
        )
    ]


def measure_again(results: Sequence[str], data: Path | None) -> list[str]:
    """Run benchmarks again, and name the quoted medians that left the committed range.

    Args:
        results: Names of results; those that need a GPU are left out on a machine without one.
        data: Images of CIFAR-10, or a folder of data sets, for the benchmarks that need them.
    """
    found = []
    for result in results:
        committed = json.loads((RESULTS / f"{result}.json").read_text(encoding="utf-8"))
        words = committed["command"].split()
        gpu = "cuda" in words
        images = Path(words[words.index("--data") + 1]) if "--data" in words else None
        if gpu and not torch.cuda.is_available():
            console.print(f"{result} is left out: it needs a GPU")
            continue
        if images and (data is None or data.suffix != images.suffix):
            kind = "an .npz file" if images.suffix else "a folder of .npz files"
            console.print(f"{result} is left out: it needs --data, {kind}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{result}.json"
            options = ["--data", str(data)] if images else []
            options += ["--device", "cuda"] if gpu else []
            if benchmark([words[3], *options, "--out", str(file)]) != 0:
                found.append(f"{result}: the benchmark failed")
                continue
            again = figures_of(file)
        own = [claim for claim in registered() if claim.result == result]
        old = {figure["name"]: figure for figure in committed["figures"]}
        found += [line for claim in own for line in moved(claim, old, again)]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the quoted figures.

    Args:
        arguments: Command line arguments; those of this process unless given.

    Returns:
        0 if every figure holds, otherwise 1.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=check.__doc__)
    parser.add_argument("--again", action="store_true", help="run the benchmarks again (hours)")
    parser.add_argument("--data", type=Path, help=".npz of CIFAR-10, or a folder, for --again")
    parser.add_argument("--results", help="names of results for --again, separated by commas")
    given = parser.parse_args(arguments)
    found = check()
    if given.again:
        chosen = given.results.split(",") if given.results else None
        found += measure_again(chosen or sorted({c.result for c in registered()}), given.data)
    for line in found:
        console.print(line, highlight=False, soft_wrap=True)
    count = len(registered())
    console.print(f"{count} quoted texts checked, {len(found)} mistakes", highlight=False)
    return int(bool(found))


def _value(name: str, figures: Mapping[str, Figure]) -> float:
    figure, _, kind = name.removesuffix(MIB_TO_GIB).rpartition(".")
    return figures[figure][kind] / (1024 if name.endswith(MIB_TO_GIB) else 1)


if __name__ == "__main__":
    sys.exit(main())
