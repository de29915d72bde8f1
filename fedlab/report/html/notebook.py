"""HTML views in notebooks of reconstructions, leaks, ledgers, runs and scenarios."""

import base64
import io

import torch
from markupsafe import Markup
from matplotlib.image import imsave
from torch import Tensor

from attacks.reconstruction.components import name_of
from attacks.reconstruction.result import Reconstruction
from fedlab.comparison.comparison import Comparison
from fedlab.evaluation.leaks import Leak
from fedlab.privacy.ledger import Ledger
from fedlab.report.tables.defenses import comparison_table
from fedlab.report.tables.ledger import clients_table
from fedlab.report.tables.naming import under
from fedlab.report.tables.numbers import decibels, plain
from fedlab.report.tables.rounds import rounds_table
from fedlab.report.tables.schedule import schedule_grid
from fedlab.report.tables.table import Column, ReportTable, facts_table
from fedlab.report.templates import render
from fedlab.report.verdicts.run import mismatch_sentence
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.analysis import Analysis

SIDE = 56
"""Width of an image in a notebook, in pixels."""

MOST_IMAGES = 16
"""Largest number of images that a notebook shows of a reconstruction or a leak."""


def reconstruction_html(result: Reconstruction) -> str:
    """Reconstructed images with their labels, and how the attack went."""
    images = list(result.images[:MOST_IMAGES])
    count = len(result.images)
    attack = result.attack
    lines = [
        f"labels {'given' if result.labels_known else 'inferred'}; {name_of(attack.method)}, "
        f"{name_of(attack.objective)} objective; cost {result.cost:.3g} in {len(result.costs)} "
        f"iterations, best of {attack.restarts} restart{'s' * (attack.restarts > 1)}; "
        f"{result.seconds:.1f} s",
        _cost_course(result.costs),
        attack.source,
    ]
    columns = [Column(_label(label)) for label in result.labels[:MOST_IMAGES]]
    cells = [_encoded(image, f"rebuilt image {place}") for place, image in enumerate(images)]
    shown = f", first {MOST_IMAGES}" if count > MOST_IMAGES else ""
    title = f"{count} rebuilt image{'s' * (count != 1)}{shown}"
    table = ReportTable(title, columns, [cells], "\n".join(filter(None, lines)))
    return str(table.__html__())


def leak_html(leak: Leak) -> str:
    """True and reconstructed images with their scores, a line for each image and target."""
    first, total = leak.rows[0], len(leak.originals)
    strips = {"true": leak.originals, "mixed": leak.mixed, "reconstructed": leak.rebuilt}
    shown = {name: images for name, images in strips.items() if images is not None}
    places = [row.image for row in leak.rows if row.target == "original"][:MOST_IMAGES]
    rows = []
    for place, image in enumerate(places):
        scores = [row for row in leak.rows if row.image == image]
        texts = [
            (
                row.target,
                decibels(row.psnr),
                decibels(row.chance_psnr),
                plain(row.ssim),
                plain(row.label_correct),
                row.verdict,
                *map(plain, row.extra.values()),
            )
            for row in scores
        ]
        pictures = [_image(each[place], f"{name} image {image}") for name, each in shown.items()]
        rows.append([str(image), *pictures, *map("\n".join, zip(*texts, strict=True))])
    scored = ["target", "PSNR", "chance", "SSIM", "label correct", "verdict", *first.extra]
    headers = ["image", *shown, *scored]
    note = [
        f"{first.preset}, labels {'known' if first.known_labels else 'inferred'}, "
        f"{under(first.defenses)}; {first.threat} server, {first.setting} setting"
        + (f": {first.reasons}." if first.reasons else "."),
        mismatch_sentence(leak.table()),
    ]
    count = f", first {MOST_IMAGES} of {total} images" if total > MOST_IMAGES else ""
    table = ReportTable(
        f"Reconstructed images of client {first.client}, round {first.round}{count}",
        [Column(header) for header in headers],
        rows,
        "\n".join(filter(None, note)),
    )
    return str(table.__html__())


def ledger_html(ledger: Ledger) -> str:
    """Mechanisms by round, and their total epsilons in each account in use."""
    return str(clients_table(ledger).__html__())


def run_html(run: RunFolder) -> str:
    """The rounds of a run folder."""
    return _rounds("Run", run, run.ledger(), run.scenario)


def federation_html(federation: Analysis) -> str:
    """The rounds of a federation so far."""
    return _rounds("Federation", federation.folder, federation.ledger, federation.scenario)


def comparison_html(comparison: Comparison) -> str:
    """The summary of a comparison."""
    return str(comparison_table(comparison).__html__())


def scenario_html(scenario: Scenario) -> str:
    """Data, model, training and schedule of a scenario."""
    data, model, training, server = (
        scenario.data,
        scenario.model,
        scenario.training,
        scenario.server,
    )
    width = f", width {model.width}" if model.width else ""
    norm = f", {model.norm} norm" if model.norm else ""
    momentum = f", momentum {training.momentum:g}" if training.momentum else ""
    cohort = f", {server.cohort} clients a round" if server.cohort else ""
    facts = {
        "data": f"{data.source}, {data.partition} over {data.clients} clients",
        "model": f"{model.name}{width}{norm}",
        "training": f"{training.epochs} local epochs, batches of {training.batch_size}, "
        f"learning rate {training.lr:g}{momentum}",
        "server": f"{server.strategy}{cohort}",
        "seed": scenario.seed,
    }
    tables = [facts_table(facts), schedule_grid(scenario)]
    return str(render("notebook.html", title=scenario.name, lines=[], path="", tables=tables))


def _rounds(kind: str, run: RunFolder, ledger: Ledger, scenario: Scenario) -> str:
    done = run.rounds()
    line = f"round {done[-1].round if done else 0} of {scenario.rounds}"
    line += f", accuracy {plain(done[-1].accuracy, digits=3)}" if done else ""
    tables = [rounds_table(run, ledger)] if done else []
    title = f"{kind}: {scenario.name}"
    return str(render("notebook.html", title=title, lines=[line], path=run.path, tables=tables))


def _image(image: Tensor, alt: str) -> Markup | str:
    """An image, or a dash if nothing was reconstructed."""
    return "-" if bool(torch.isnan(image).all()) else _encoded(image, alt)


def _encoded(image: Tensor, alt: str) -> Markup:
    """An image as data of the page itself; NaN is grey."""
    pixels = image.detach().cpu().float().nan_to_num(nan=0.5).clamp(0, 1)
    pixels = pixels.expand(3, -1, -1).permute(1, 2, 0)
    content = io.BytesIO()
    imsave(content, pixels.numpy(), format="png")
    smooth = "auto" if max(image.shape[1:]) > SIDE else "pixelated"
    return Markup(
        '<img src="data:image/png;base64,{}" alt="{}" width="{}" style="image-rendering:{}">'
    ).format(base64.b64encode(content.getvalue()).decode(), alt, SIDE, smooth)


def _cost_course(costs: Tensor) -> str:
    """First and last matching cost that is positive and finite."""
    costs = costs[(costs > 0) & costs.isfinite()]
    return f"matching cost from {costs[0]:.2g} to {costs[-1]:.2g}" if len(costs) > 1 else ""


def _label(label: Tensor) -> str:
    """Class of an image, or its most likely class with the probability."""
    if label.ndim == 0:
        return f"label {int(label)}"
    best = int(label.argmax())
    return f"label {best} ({float(label[best]):.2f})"
