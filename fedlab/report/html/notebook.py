"""HTML views in notebooks of reconstructions, leaks, ledgers, runs and scenarios."""

import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from attacks.reconstruction.components import name_of
from attacks.reconstruction.result import Reconstruction
from fedlab.comparison.comparison import Comparison
from fedlab.evaluation.leaks import Leak
from fedlab.privacy.ledger import Ledger
from fedlab.report.figures.gallery import gallery
from fedlab.report.figures.leaks import leak_figure
from fedlab.report.figures.sheet import image_tag
from fedlab.report.tables.defenses import comparison_table
from fedlab.report.tables.ledger import clients_table
from fedlab.report.tables.naming import under
from fedlab.report.tables.numbers import counted, plain
from fedlab.report.tables.rounds import rounds_table
from fedlab.report.tables.schedule import schedule_grid
from fedlab.report.tables.table import ReportTable, facts_table
from fedlab.report.tables.terminal import leak_table
from fedlab.report.templates import render
from fedlab.report.verdicts.counts import simulated_power_sentence
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.analysis import Analysis

MOST_IMAGES = 16
"""Largest number of images that a notebook shows of a reconstruction."""


def reconstruction_html(result: Reconstruction) -> str:
    """Reconstructed images with their labels, and how the attack went."""
    attack, count = result.attack, len(result.images)
    lines = [
        f"labels {'given' if result.labels_known else 'inferred'}; {name_of(attack.method)}, "
        f"{name_of(attack.objective)} objective; cost {result.cost:.3g} in {len(result.costs)} "
        f"iterations, best of {counted(attack.restarts, 'restart')}; {result.seconds:.1f} s",
        _cost_course(result.costs),
        "" if math.isnan(result.power) else simulated_power_sentence(result.power),
        attack.source,
    ]
    title = counted(count, "rebuilt image") + f", first {MOST_IMAGES}" * (count > MOST_IMAGES)
    labels = [_label(label) for label in result.labels[:MOST_IMAGES]]
    picture = gallery(result.images[:MOST_IMAGES], labels, title="What was rebuilt?")
    return _view(title, [line for line in lines if line], picture=image_tag(picture))


def leak_html(leak: Leak) -> str:
    """True and reconstructed images, with their scores below."""
    first = leak.rows[0]
    line = (
        f"{first.preset}, labels {'known' if first.known_labels else 'inferred'}, "
        f"{under(first.defenses)}; {first.threat} server, {first.setting} setting"
    )
    title = f"Reconstructed images of client {first.client}, round {first.round}"
    picture = image_tag(leak_figure(leak))
    return _view(title, [line], picture=picture, tables=[leak_table(leak)])


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
    latent = f", bottleneck of {model.bottleneck}" if model.bottleneck else ""
    momentum = f", momentum {training.momentum:g}" if training.momentum else ""
    cohort = f", {server.cohort} clients a round" if server.cohort else ""
    facts = {
        "data": f"{data.source}, {data.partition} over {data.clients} clients",
        "model": f"{model.name}{width}{norm}{latent}",
        "training": f"{training.epochs} local epochs, batches of {training.batch_size}, "
        f"learning rate {training.lr:g}{momentum}",
        "server": f"{server.strategy}{cohort}",
        "seed": scenario.seed,
    }
    tables = [facts_table(facts), schedule_grid(scenario)]
    return _view(scenario.name, tables=tables)


def _rounds(kind: str, run: RunFolder, ledger: Ledger, scenario: Scenario) -> str:
    done = run.rounds()
    line = f"round {done[-1].round if done else 0} of {scenario.rounds}"
    line += f", accuracy {plain(done[-1].accuracy, digits=3)}" if done else ""
    tables = [rounds_table(run, ledger)] if done else []
    title = f"{kind}: {scenario.name}"
    return _view(title, [line], path=run.path, tables=tables)


def _view(
    title: str,
    lines: Sequence[str] = (),
    *,
    path: Path | str = "",
    picture: str = "",
    tables: Sequence[ReportTable] = (),
) -> str:
    facts = {"title": title, "lines": lines, "path": path, "picture": picture, "tables": tables}
    return str(render("notebook.html", **facts))


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
