"""The page of a comparison."""

import shlex
from functools import partial

import pandas as pd

from fedlab.comparison import Comparison
from fedlab.comparison.comparison import FACTS
from fedlab.comparison.parsing import setting_text
from fedlab.comparison.sweep import grid_text
from fedlab.core.errors import BadInput
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.frontier import frontier_figure
from fedlab.report.figures.image_grid import wall_figure
from fedlab.report.figures.poisoning_matrix import poisoning_matrix_figure
from fedlab.report.figures.sweep import accuracy_figure, epsilon_figure, sweep_figure
from fedlab.report.page.local_paths import source_of, without_folders
from fedlab.report.page.page_content import FoldedTable, PageContent, csv_table, leakage_table
from fedlab.report.page.research_question import research_question
from fedlab.report.page.threat_model import defense_settings, threat_model
from fedlab.report.page.viewer import Viewer, viewer_of
from fedlab.report.tables.defenses import defenses_table
from fedlab.report.tables.ledger import clients_table
from fedlab.report.tables.naming import UNDEFENDED
from fedlab.report.tables.numbers import counted, listed
from fedlab.report.verdicts.comparison import comparison_verdicts
from fedlab.results.folder import RunFolder


def comparison_page(comparison: Comparison) -> PageContent:
    """The content of a comparison's page.

    Raises:
        BadInput: If none of its runs has a result.
    """
    if not comparison.runs or comparison.frame.empty:
        raise BadInput(
            f"{comparison.folder} has no finished run, so there is nothing to report"
            + "".join(f"; {name}: {why}" for name, why in list(comparison.failures.items())[:1])
        )
    first = comparison.runs[0].folder
    # The scenario of a run has the attacks of the comparison; its defenses are those of one arm.
    scenario = first.scenario.changed(defenses=())
    seeds, rules = len(comparison.seeds), comparison.rules
    arms = [run.folder.scenario for run in comparison.runs]
    firsts = {run.defense: run for run in reversed(comparison.runs)}
    runs = [firsts[defense] for defense in comparison.defenses if defense in firsts]
    varied = "grid" if len(comparison.points) > 1 else "rule"
    rule_term = ("Rules", f"The server aggregates by {listed(rules, 'or')}.")
    return PageContent(
        kind="Comparison",
        folder=comparison.folder,
        first=first.path,
        facts=[
            counted(len(comparison.defenses), "defense"),
            counted(seeds, "seed"),
            *[counted(len(comparison.points), "setting")] * (len(comparison.points) > 1),
            rules[0] if len(rules) == 1 else f"{len(rules)} rules",
            f"{scenario.rounds} rounds",
            f"{scenario.data.clients} clients",
            source_of(scenario),
            scenario.model.name,
        ],
        question=research_question(
            scenario, defenses=[name for name in comparison.defenses if name != UNDEFENDED]
        ),
        verdicts=comparison_verdicts(comparison.frame, comparison.leakage),
        threat_model=[
            *threat_model(scenario, arms=arms),
            *(
                ("Defense", f"{run.defense}: {' '.join(settings)}")
                for run in runs
                if (settings := defense_settings(run.folder.scenario))
            ),
            *[rule_term] * (len(rules) > 1),
            *(
                ("Swept setting", f"{path} is {listed(list(map(setting_text, values)), 'or')}.")
                for path, values in comparison.sweep.items()
            ),
        ],
        figures={
            "frontier": partial(frontier_figure, comparison.frame),
            "wall": partial(wall_figure, {run.defense: run.folder for run in runs}),
            "chance": partial(chance_figure, comparison.leakage),
            "poisoning": partial(poisoning_matrix_figure, comparison.frame, columns=varied),
            "sweep": partial(sweep_figure, comparison.frame),
            "spending": partial(epsilon_figure, comparison.frame),
            "tradeoff": partial(accuracy_figure, comparison.frame),
        },
        tables=_tables(comparison),
        ledger=[
            (
                f"{run.defense}: client by client (seed {run.seed})",
                clients_table(run.folder.ledger(), run.folder.scenario),
                False,
            )
            for run in runs
        ],
        scenario=scenario,
        file=comparison.scenario,
        again=_command(comparison),
        arms=arms,
        viewer=partial(_viewer, comparison),
        seeds=seeds,
        compared=comparison.defenses,
    )


def _viewer(comparison: Comparison) -> Viewer | None:
    """Images of the first seed of each defense, rule and combination of swept settings."""
    several = len(comparison.rules) > 1
    runs: dict[str, RunFolder] = {}
    for run in comparison.runs:
        name = ", ".join(filter(None, (run.defense, run.rule * several, run.grid)))
        runs.setdefault(name, run.folder)
    about = f"From the first of {len(comparison.seeds)} seeds." * (len(comparison.seeds) > 1)
    return viewer_of(runs, about=about)


def _tables(comparison: Comparison) -> list[FoldedTable]:
    title = "Defenses side by side"
    varied = ("rule",) * (len(comparison.rules) > 1) + ("grid",) * (len(comparison.points) > 1)
    runs = [(r.defense, r.rule, r.grid, r.seed, r.folder.path.name) for r in comparison.runs]
    frame = pd.DataFrame(runs, columns=["defense", "rule", "grid", "seed", "folder"])
    if not comparison.sweep:
        frame = frame.drop(columns="grid")
    failures = [(run, without_folders(why)) for run, why in comparison.failures.items()]
    failed = pd.DataFrame(failures, columns=["run", "reason"])
    return [
        (title, defenses_table(comparison.frame, title=title), True),
        *leakage_table(comparison.leakage, arm=("defense", *varied, "seed")),
        csv_table(frame, "Runs", file=FACTS, open=False),
        *[csv_table(failed, "Failed runs", file=FACTS, names=1, open=True)] * bool(failures),
    ]


def _command(comparison: Comparison) -> str:
    # A single number would be read as the number of seeds.
    seeds = ",".join(map(str, comparison.seeds)) + "," * (len(comparison.seeds) == 1)
    own_rule = (comparison.scenario.server.strategy,)
    parts = [
        "fedlab compare scenario.toml",
        f"--defenses {shlex.quote(','.join(comparison.defenses))}",
        *[f"--attacks {shlex.quote(','.join(comparison.presets))}"] * bool(comparison.presets),
        *[f"--rules {shlex.quote(','.join(comparison.rules))}"] * (comparison.rules != own_rule),
        *(
            f"--grid {shlex.quote(f'{path}={grid_text(values)}')}"
            for path, values in comparison.sweep.items()
        ),
        f"--seeds {seeds}",
        "--out again",
    ]
    return " \\\n    ".join(parts)
