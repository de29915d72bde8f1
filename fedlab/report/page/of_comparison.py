"""The page of a comparison."""

import shlex
from collections.abc import Sequence

from fedlab.comparison import ComparedRun, Comparison
from fedlab.core.errors import BadInput
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.frontier import frontier_figure
from fedlab.report.figures.image_grid import wall_figure
from fedlab.report.figures.poisoning_matrix import poisoning_matrix_figure
from fedlab.report.html.scenario import schedule_table
from fedlab.report.html.tables import html_table, rich_table
from fedlab.report.page.content import Command, Content, Folded
from fedlab.report.page.environment import environment_table
from fedlab.report.page.meaning import meaning
from fedlab.report.page.of_run import leakage_table
from fedlab.report.page.pictures import Planned, shown
from fedlab.report.page.places import put_beside, source_of, toml_of, without_places
from fedlab.report.page.question import question
from fedlab.report.page.threat_model import defense_settings, threat_model
from fedlab.report.tables.defenses import columns_of, defense_lines, note_of
from fedlab.report.tables.ledger import clients_table
from fedlab.report.tables.numbers import listed
from fedlab.report.verdicts.comparison import comparison_verdicts
from fedlab.scenario.reproducibility import repeatability
from fedlab.scenario.scenario import Scenario


def page_of_comparison(comparison: Comparison) -> Content:
    """Everything that a comparison's page says.

    Raises:
        BadInput: If none of its runs has a result.
    """
    if not comparison.runs or comparison.frame.empty:
        raise BadInput(
            f"{comparison.folder} holds no finished run, so there is nothing to report"
            + "".join(f"; {name}: {why}" for name, why in list(comparison.failures.items())[:1])
        )
    first = comparison.runs[0]
    # The attacks of a comparison may be others than those of its base; the defenses come by arm.
    scenario = first.folder.scenario.changed(defenses=())
    seeds, rules = len(comparison.seeds), comparison.rules
    arms = [run.folder.scenario for run in comparison.runs]
    return Content(
        kind="Comparison",
        name=comparison.scenario.name,
        facts=[
            f"{len(comparison.defenses)} defenses",
            f"{seeds} seed{'s' * (seeds > 1)}",
            *([f"{len(rules)} rules"] if len(rules) > 1 else rules),
            f"{scenario.rounds} rounds",
            f"{scenario.data.clients} clients",
            source_of(scenario),
            scenario.model.name,
        ],
        question=question(scenario, defenses=[d for d in comparison.defenses if d != "none"]),
        verdicts=comparison_verdicts(comparison.frame, comparison.leakage),
        threat_model=[
            *threat_model(scenario, arms=arms),
            *[
                ("Defense", f"{run.defense}: {' '.join(settings)}")
                for run in _one_for_each_defense(comparison)
                if (settings := list(defense_settings(run.folder.scenario)))
            ],
            *([("Rules", f"The server aggregates by {listed(rules, 'or')}.")] * (len(rules) > 1)),
        ],
        schedule=schedule_table(scenario),
        figures=shown(_figures(comparison)),
        tables=_tables(comparison),
        ledger=[
            Folded(
                f"{run.defense}: client by client (seed {run.seed})",
                rich_table(
                    clients_table(run.folder.scenario, run.folder.ledger()),
                    caption=f"{run.defense}: privacy, client by client",
                ),
            )
            for run in _one_for_each_defense(comparison)
        ],
        environment=environment_table(first.folder.path, arms),
        scenario=toml_of(comparison.scenario),
        commands=_commands(comparison, arms),
        meaning=meaning(scenario, seeds=seeds, arms=arms),
    )


def _one_for_each_defense(comparison: Comparison) -> list[ComparedRun]:
    """The first run of every defense that has one, in the order asked."""
    found: dict[str, ComparedRun] = {}
    for run in comparison.runs:
        found.setdefault(run.defense, run)
    return [found[defense] for defense in comparison.defenses if defense in found]


def _figures(comparison: Comparison) -> list[Planned]:
    return [
        Planned(
            "figure-frontier",
            "Accuracy against leakage, a mark for each defense, with its spread over the seeds.",
            lambda: frontier_figure(comparison.frame),
        ),
        Planned(
            "figure-wall",
            "True images and what the server rebuilt of them under each defense, from the first "
            "seed; a defense that draws batches or mixtures of its own has other true images.",
            lambda: wall_figure(
                {run.defense: run.folder for run in _one_for_each_defense(comparison)}
            ),
        ),
        Planned(
            "figure-chance",
            "PSNR of every rebuilt image against the best guess that sees no update, by defense.",
            lambda: chance_figure(comparison.leakage),
        ),
        Planned(
            "figure-poisoning",
            "Attack success, its chance, and accuracy after the last round, by defense and rule.",
            lambda: poisoning_matrix_figure(comparison.frame),
        ),
    ]


def _tables(comparison: Comparison) -> list[Folded]:
    lines = defense_lines(comparison.frame)
    columns = columns_of(lines)
    found = [
        Folded(
            "Defenses side by side",
            html_table(
                columns.header,
                columns.rows,
                caption="Defenses side by side",
                note=note_of(lines),
                right=range(columns.names, len(columns.header)),
                names=columns.names,
            ),
            open=True,
        )
    ]
    if not comparison.leakage.empty:
        several = ("rule",) if len(comparison.rules) > 1 else ()
        found.append(leakage_table(comparison.leakage, first=("defense", *several, "seed")))
    found.append(
        Folded(
            f"Runs ({len(comparison.runs)})",
            html_table(
                ["defense", "rule", "seed", "folder"],
                [[r.defense, r.rule, r.seed, r.folder.path.name] for r in comparison.runs],
                caption="Runs, each in a folder of its own",
                right=(2,),
                names=2,
            ),
        )
    )
    if comparison.failures:
        found.append(
            Folded(
                f"Runs without a result ({len(comparison.failures)})",
                html_table(
                    ["run", "why"],
                    [[run, without_places(why)] for run, why in comparison.failures.items()],
                    caption="Without a result",
                ),
                open=True,
            )
        )
    return found


def _commands(comparison: Comparison, arms: Sequence[Scenario]) -> list[Command]:
    own = (comparison.scenario.server.strategy,)
    parts = [
        "fedlab compare scenario.toml",
        f"--defenses {shlex.quote(','.join(comparison.defenses))}",
        *([f"--attacks {','.join(comparison.presets)}"] if comparison.presets else []),
        *([f"--rules {shlex.quote(','.join(comparison.rules))}"] * (comparison.rules != own)),
        # One seed alone would be taken for how many.
        f"--seeds {','.join(map(str, comparison.seeds))}{',' * (len(comparison.seeds) == 1)}",
        "--out again",
    ]
    return [
        Command(
            "Run it again, from the scenario above, saved as scenario.toml."
            f"{put_beside(comparison.scenario)} {repeatability(arms)}",
            " \\\n    ".join(parts),
        ),
        Command(
            "Write this page.", f"fedlab report {shlex.quote(comparison.folder.resolve().name)}"
        ),
    ]
