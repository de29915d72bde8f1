"""The page of a comparison."""

import shlex
from functools import partial

import pandas as pd

from fedlab.comparison import Comparison
from fedlab.comparison.comparison import FACTS
from fedlab.core.errors import BadInput
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.frontier import frontier_figure
from fedlab.report.figures.image_grid import wall_figure
from fedlab.report.figures.poisoning_matrix import poisoning_matrix_figure
from fedlab.report.page.local_paths import source_of, without_folders
from fedlab.report.page.page_content import FoldedTable, PageContent, csv_table, leakage_table
from fedlab.report.page.research_question import research_question
from fedlab.report.page.threat_model import defense_settings, threat_model
from fedlab.report.tables.defenses import defenses_table
from fedlab.report.tables.ledger import clients_table
from fedlab.report.tables.naming import UNDEFENDED
from fedlab.report.tables.numbers import counted, listed
from fedlab.report.verdicts.comparison import comparison_verdicts


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
    rule_term = ("Rules", f"The server aggregates by {listed(rules, 'or')}.")
    return PageContent(
        kind="Comparison",
        folder=comparison.folder,
        first=first.path,
        facts=[
            counted(len(comparison.defenses), "defense"),
            counted(seeds, "seed"),
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
        ],
        figures={
            "frontier": partial(frontier_figure, comparison.frame),
            "wall": partial(wall_figure, {run.defense: run.folder for run in runs}),
            "chance": partial(chance_figure, comparison.leakage),
            "poisoning": partial(poisoning_matrix_figure, comparison.frame),
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
        seeds=seeds,
    )


def _tables(comparison: Comparison) -> list[FoldedTable]:
    title = "Defenses side by side"
    rule = ("rule",) * (len(comparison.rules) > 1)
    runs = [(r.defense, r.rule, r.seed, r.folder.path.name) for r in comparison.runs]
    frame = pd.DataFrame(runs, columns=["defense", "rule", "seed", "folder"])
    failures = [(run, without_folders(why)) for run, why in comparison.failures.items()]
    failed = pd.DataFrame(failures, columns=["run", "reason"])
    return [
        (title, defenses_table(comparison.frame, title=title), True),
        *leakage_table(comparison.leakage, arm=("defense", *rule, "seed")),
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
        *[f"--attacks {','.join(comparison.presets)}"] * bool(comparison.presets),
        *[f"--rules {shlex.quote(','.join(comparison.rules))}"] * (comparison.rules != own_rule),
        f"--seeds {seeds}",
        "--out again",
    ]
    return " \\\n    ".join(parts)
