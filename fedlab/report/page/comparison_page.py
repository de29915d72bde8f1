"""The page of a comparison."""

import shlex
from collections.abc import Sequence

import pandas as pd

from fedlab.comparison import ComparedRun, Comparison
from fedlab.core.errors import BadInput
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.frontier import frontier_figure
from fedlab.report.figures.image_grid import wall_figure
from fedlab.report.figures.poisoning_matrix import poisoning_matrix_figure
from fedlab.report.page.embedded_figures import PlannedFigure, embed
from fedlab.report.page.environment import environment_table
from fedlab.report.page.interpretation import interpretation
from fedlab.report.page.local_paths import files_needed, portable_toml, source_of, without_folders
from fedlab.report.page.page_content import Command, FoldedTable, folded
from fedlab.report.page.research_question import research_question
from fedlab.report.page.run_page import leakage_table
from fedlab.report.page.threat_model import defense_settings, threat_model
from fedlab.report.tables.defenses import defenses_table
from fedlab.report.tables.ledger import clients_table
from fedlab.report.tables.naming import UNDEFENDED
from fedlab.report.tables.numbers import counted, listed
from fedlab.report.tables.schedule import schedule_grid
from fedlab.report.tables.table import frame_table
from fedlab.report.verdicts.comparison import comparison_verdicts
from fedlab.scenario.reproducibility import repeatability
from fedlab.scenario.scenario import Scenario


def comparison_page(comparison: Comparison) -> dict[str, object]:
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
    runs = _one_run_per_defense(comparison)
    rule_term = [("Rules", f"The server aggregates by {listed(rules, 'or')}.")]
    return {
        "kind": "Comparison",
        "name": comparison.scenario.name,
        "facts": [
            counted(len(comparison.defenses), "defense"),
            counted(seeds, "seed"),
            rules[0] if len(rules) == 1 else f"{len(rules)} rules",
            f"{scenario.rounds} rounds",
            f"{scenario.data.clients} clients",
            source_of(scenario),
            scenario.model.name,
        ],
        "question": research_question(
            scenario, defenses=[name for name in comparison.defenses if name != UNDEFENDED]
        ),
        "verdicts": comparison_verdicts(comparison.frame, comparison.leakage),
        "threat_model": [
            *threat_model(scenario, arms=arms),
            *(
                ("Defense", f"{run.defense}: {' '.join(settings)}")
                for run in runs
                if (settings := defense_settings(run.folder.scenario))
            ),
            *(rule_term if len(rules) > 1 else []),
        ],
        "schedule": schedule_grid(scenario),
        "figures": embed(_figures(comparison, runs)),
        "tables": _tables(comparison),
        "ledger": [
            FoldedTable(
                f"{run.defense}: client by client (seed {run.seed})",
                clients_table(run.folder.ledger(), run.folder.scenario),
                open=False,
            )
            for run in runs
        ],
        "environment": environment_table(first.path, arms),
        "scenario": portable_toml(comparison.scenario),
        "commands": _commands(comparison, arms),
        "interpretation": interpretation(scenario, seeds=seeds, arms=arms),
    }


def _one_run_per_defense(comparison: Comparison) -> list[ComparedRun]:
    """The first run of every defense that has one, in the order asked for."""
    first = {run.defense: run for run in reversed(comparison.runs)}
    return [first[defense] for defense in comparison.defenses if defense in first]


def _figures(comparison: Comparison, runs: Sequence[ComparedRun]) -> list[PlannedFigure]:
    return [
        (
            "figure-frontier",
            "Accuracy against leakage, one mark per defense, with its spread over the seeds.",
            lambda: frontier_figure(comparison.frame),
        ),
        (
            "figure-wall",
            "True images and their reconstructions under each defense, from the first seed. A "
            "defense that samples batches or mixes images has other true images.",
            lambda: wall_figure({run.defense: run.folder for run in runs}),
        ),
        (
            "figure-chance",
            "PSNR of every reconstruction and of the best guess without any update, by defense.",
            lambda: chance_figure(comparison.leakage),
        ),
        (
            "figure-poisoning",
            "Attack success, its chance, and accuracy after the last round, by defense and rule.",
            lambda: poisoning_matrix_figure(comparison.frame),
        ),
    ]


def _tables(comparison: Comparison) -> list[FoldedTable]:
    defenses = defenses_table(comparison.frame, title="Defenses side by side")
    found = [FoldedTable("Defenses side by side", defenses, open=True)]
    if not comparison.leakage.empty:
        rule = ("rule",) if len(comparison.rules) > 1 else ()
        found.append(leakage_table(comparison.leakage, arm=("defense", *rule, "seed")))
    runs = [(r.defense, r.rule, r.seed, r.folder.path.name) for r in comparison.runs]
    frame = pd.DataFrame(runs, columns=["defense", "rule", "seed", "folder"])
    found.append(folded("Runs", frame_table(frame, title="Runs", names=2), open=False))
    if comparison.failures:
        failures = [(run, without_folders(why)) for run, why in comparison.failures.items()]
        table = frame_table(pd.DataFrame(failures, columns=["run", "reason"]), title="Failed runs")
        found.append(folded("Failed runs", table, open=True))
    return found


def _commands(comparison: Comparison, arms: Sequence[Scenario]) -> list[Command]:
    own_rule = (comparison.scenario.server.strategy,)
    # A single number would be read as the number of seeds.
    seeds = ",".join(map(str, comparison.seeds)) + "," * (len(comparison.seeds) == 1)
    parts = [
        "fedlab compare scenario.toml",
        f"--defenses {shlex.quote(','.join(comparison.defenses))}",
        *([f"--attacks {','.join(comparison.presets)}"] if comparison.presets else []),
        *([f"--rules {shlex.quote(','.join(comparison.rules))}"] * (comparison.rules != own_rule)),
        f"--seeds {seeds}",
        "--out again",
    ]
    name = shlex.quote(comparison.folder.resolve().name)
    return [
        Command(
            "Run it again from the scenario above, saved as scenario.toml. "
            f"{files_needed(comparison.scenario)} {repeatability(arms)}",
            " \\\n    ".join(parts),
        ),
        Command("Write this page.", f"fedlab report {name}"),
    ]
