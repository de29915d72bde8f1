"""Import paths of all built-in views, by class and by name of the view.

``fedlab.core.views`` reads this table and imports a function when an object is first shown, so
neither this module nor the data classes import matplotlib. An installed package adds views of its
own with a mapping of the same form under the entry point group ``fedlab.views``.
"""

_FIGURES = "fedlab.report.figures"
_HTML = "fedlab.report.html.notebook"
_RECONSTRUCTION = "attacks.reconstruction.result:Reconstruction"
_LEAK = "fedlab.evaluation.leaks:Leak"
_LEAKS = "fedlab.evaluation.leaks:LeakSeries"
_TRACE = "fedlab.evaluation.attack_trace:AttackTrace"
_UNMIXED = "fedlab.evaluation.unmixing:UnmixedShard"
_LEDGER = "fedlab.privacy.ledger:Ledger"
_RUN = "fedlab.results.folder:RunFolder"
_AUDIT = "fedlab.integrations.audit:Audit"
_CAPTURES = "fedlab.integrations.capture_folder:CaptureFolder"
_FEDERATION = "fedlab.simulation.analysis:Analysis"
_POISON = "fedlab.simulation.poison_preview:PoisonPreview"
_COMPARISON = "fedlab.comparison.comparison:Comparison"
_SCENARIO = "fedlab.scenario.scenario:Scenario"
_ANY = "fedlab.core.views:Viewable"

VIEWS: dict[tuple[str, str], str] = {
    # Views of every class that registers none of its own.
    (_ANY, "picture"): f"{_FIGURES}.sheet:main_figure",
    (_ANY, "html"): f"{_FIGURES}.sheet:figure_html",
    ("matplotlib.figure:Figure", "file"): f"{_FIGURES}.sheet:save",
    (_RECONSTRUCTION, "html"): f"{_HTML}:reconstruction_html",
    (_LEAK, "plot"): f"{_FIGURES}.leaks:leak_figure",
    (_LEAK, "html"): f"{_HTML}:leak_html",
    (_LEAKS, "plot"): f"{_FIGURES}.leaks:leaks_figure",
    (_TRACE, "plot"): f"{_FIGURES}.convergence:convergence_figure",
    (_UNMIXED, "plot"): f"{_FIGURES}.leaks:unmixed_figure",
    (_LEDGER, "plot"): f"{_FIGURES}.ledger:ledger_figure",
    (_LEDGER, "html"): f"{_HTML}:ledger_html",
    (_RUN, "plot"): f"{_FIGURES}.timeline:timeline_figure",
    (_RUN, "picture"): f"{_FIGURES}.leaks:run_figure",
    (_RUN, "html"): f"{_HTML}:run_html",
    (_RUN, "table"): "fedlab.report.tables.rounds:rounds_table",
    (_RUN, "page"): "fedlab.report.page.write:write_page",
    (_AUDIT, "plot"): f"{_FIGURES}.audits:audit_figure",
    (_AUDIT, "page"): "fedlab.report.page.audit_page:write_audits",
    (_AUDIT, "card"): "fedlab.report.card.write:write_card",
    (_CAPTURES, "page"): "fedlab.report.page.audit_page:write_audits",
    (_FEDERATION, "html"): f"{_HTML}:federation_html",
    (_FEDERATION, "controls"): "fedlab.report.html.controls:controls",
    (_POISON, "plot"): f"{_FIGURES}.poison:poison_figure",
    (_COMPARISON, "plot"): f"{_FIGURES}.comparison:frontier",
    (_COMPARISON, "picture"): f"{_FIGURES}.comparison:wall",
    (_COMPARISON, "wall"): f"{_FIGURES}.comparison:wall",
    (_COMPARISON, "chance"): f"{_FIGURES}.comparison:chance",
    (_COMPARISON, "poisoning"): f"{_FIGURES}.comparison:poisoning",
    (_COMPARISON, "swept"): f"{_FIGURES}.comparison:swept",
    (_COMPARISON, "spending"): f"{_FIGURES}.comparison:spending",
    (_COMPARISON, "tradeoff"): f"{_FIGURES}.comparison:tradeoff",
    (_COMPARISON, "table"): "fedlab.report.tables.defenses:comparison_table",
    (_COMPARISON, "html"): f"{_HTML}:comparison_html",
    (_COMPARISON, "page"): "fedlab.report.page.write:write_page",
    (_COMPARISON, "card"): "fedlab.report.card.write:write_card",
    (_SCENARIO, "plot"): f"{_FIGURES}.schedule:schedule_figure",
    (_SCENARIO, "html"): f"{_HTML}:scenario_html",
}
