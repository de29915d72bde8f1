"""The reference that is written from the code is whole: keys, columns, plug-ins and commands."""

import re

import pandas as pd
import pytest
from pydantic import Field

import fedlab
from docs.generated import columns, commands, keys, plugins
from docs.generated.docstrings import entries, paragraphs
from fedlab.cli.list import KINDS, REGISTRIES
from fedlab.core.plugins import load
from fedlab.core.settings import Count, Settings
from tests.commands import ROOT
from tests.federations import finished, small

KEYS = [key for table in keys.tables() for key in table.keys]
PLUGINS = [
    keys.key_of(f"{kind}.{name}.{key}", field)
    for kind in ("defenses", "poisons", "updates", "trackers")
    for name in load(REGISTRIES[kind], what=kind).builtin
    for key, field in load(REGISTRIES[kind], what=kind).get(name).model_fields.items()
    if key not in ("name", "attack", "rounds", "clients")
]
EVERY = pytest.mark.parametrize("key", [*KEYS, *PLUGINS], ids=lambda key: key.path)

UNIT = re.compile(
    r"numbers? of|images?|clients?|rounds?|classes|seconds|pixels?|\bdB\b|MiB|epochs?|steps?|bits"
    r"|share|probability|factor|weight|rate|norm|epsilon|delta|standard deviation|scale"
    r"|concentration|momentum|seed|class|label|frequency|copies|length|interval|parameter"
    r"|how often|channels|passes|iterations",
    re.IGNORECASE,
)
"""What a description says of a number: its unit, or what it counts."""


@EVERY
def test_key_is_described_with_its_unit(key):
    assert key.text.endswith(".")
    if re.match("(whole )?number", key.kind):
        assert UNIT.search(key.text)


@EVERY
def test_number_has_a_range(key):
    if re.match("(whole )?number", key.kind) and key.path not in (
        "defenses.leakage-gate.threshold",  # any PSNR in dB
        "updates.scaling.factor",  # may be negative
        "updates.constrain-and-scale.factor",
    ):
        assert re.search(r"from|above|at least|at most|below", key.kind)


def test_every_table_of_a_scenario_is_listed():
    found = {table.path for table in keys.tables()}
    assert {"training", "server.central_dp", "server.malicious", "roles", "audit"} <= found
    assert len({(table.path, table.title) for table in keys.tables()}) == len(list(keys.tables()))


def test_types_ranges_and_defaults_are_in_words():
    class Example(Settings):
        count: Count = Field(default=3, ge=1)
        share: float | None = Field(default=None, gt=0, lt=1)
        change: float = Field(default=8 / 255, ge=0, le=1)
        flag: bool = True
        lr: float = Field(default=0.2, gt=0)

    found = [keys.key_of(name, field) for name, field in Example.model_fields.items()]
    assert [(key.kind, key.default) for key in found] == [
        ("whole number from 1 to 1,000,000", "`3`"),
        ("number above 0 and below 1", "not set"),
        ("number from 0 to 1", "`8/255`"),
        ("true or false", "`true`"),
        ("number above 0", "`0.2`"),
    ]


def test_every_plugin_of_every_kind_is_listed():
    assert set(plugins.SECTIONS) == set(KINDS) - {"scenarios"}
    text = plugins.markdown()
    for kind, path in REGISTRIES.items():
        for name in load(path, what=kind).builtin:
            assert re.search(rf"`{re.escape(name)}[:`]", text), name
    for key in PLUGINS:
        assert f":::{{key}} {key.path}\n" in text


def test_every_option_of_a_rule_is_described():
    assert not re.findall(r"^:\s*$", plugins.markdown(), re.MULTILINE)


def test_every_column_of_a_run_is_described():
    folder = finished(small(rounds=1, roles=[{"role": "leaking", "clients": "0"}])).folder
    for file, (row, _) in columns.FILES.items():
        texts = entries(row.__doc__, "Attributes")
        if file.endswith(".csv"):
            assert set(folder.table(file.removesuffix(".csv"))) <= set(texts)
    assert set(vars(folder.rounds()[0])) <= set(entries(columns.RoundRow.__doc__, "Attributes"))


@pytest.mark.slow
def test_every_column_of_a_comparison_is_described(tmp_path):
    scenario = small(
        rounds=1,
        roles=[{"role": "leaking", "clients": "0"}],
        reconstructions=[{"clients": "0", "preset": "fast", "iterations": 2}],
    )
    grid = {"training.lr": [0.05, 0.1]}
    found = fedlab.compare(scenario, ["none"], seeds=1, grid=grid, out=tmp_path / "c", processes=1)
    known = {*columns.compared(), "grid.training.lr"}
    assert set(pd.read_csv(found.folder / "comparison.csv")) == known
    summary = set(pd.read_csv(found.folder / "summary.csv"))
    ends = {re.sub("_(min|max)$", "", name) for name in summary}
    assert ends <= known | set(columns.SUMMARISED)
    assert set(columns.SUMMARISED) <= summary


def test_every_command_and_option_is_described():
    text = commands.markdown()
    for name, command in commands.commands().items():
        assert f"## `fedlab {name}`" in text
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                assert getattr(parameter, "help", ""), (name, parameter.name)


def test_python_page_names_the_public_api():
    page = (ROOT / "docs/reference/api.md").read_text("utf-8")
    named = set(re.findall(r"auto\w+:: fedlab\.(\w+)", page))
    assert set(fedlab.__all__) <= named


def test_gallery_shows_every_picture():
    page = (ROOT / "docs/reference/gallery.md").read_text("utf-8")
    assert set(re.findall(r"\(\.\./([\w-]+\.png)\)", page)) == {
        path.name for path in (ROOT / "docs").glob("*.png")
    }


def test_docstrings_of_both_forms_are_read():
    numpy = "What.\n\nParameters\n----------\nbeta : float (default: 0.2)\n    Share\n    cut.\n"
    assert entries(numpy, "Parameters") == {"beta": "Share cut."}
    google = (
        "What.\n\nArgs:\n    one: First\n        line.\n    **more: Rest.\n\nRaises:\n    E: No."
    )
    assert entries(google, "Args") == {"one": "First line.", "more": "Rest."}
    assert paragraphs(google) == ["What."]
