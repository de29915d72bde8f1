"""Metrics: the columns of leakage.csv, and further ones from other packages."""

import math
from dataclasses import fields

import pytest
import torch

from fedlab.core.errors import BadInput
from fedlab.core.plugins import PluginFailed
from fedlab.metrics.metric import COLUMNS, METRICS, Metric, described, ssim
from fedlab.metrics.similarity import ssim as reference
from fedlab.results.rows import LeakageRow
from fedlab.simulation.federation import Federation
from tests import foreign_attacks as foreign
from tests.federations import PLAIN, finished, small

L1 = "tests.foreign_attacks:l1"
LEAK = {"role": "leaking", "clients": "0", "batch_size": 2}
ATTACK = {"clients": "0", "iterations": 2}


def test_builtin_metrics_are_columns_of_the_table():
    assert set(COLUMNS) <= {field.name for field in fields(LeakageRow)}
    added = {name for name in METRICS.builtin if METRICS.get(name).column not in COLUMNS}
    assert added == {"outline"}


def test_header_and_text():
    assert COLUMNS["psnr"].header == "PSNR (dB)"
    assert COLUMNS["psnr"].text(21.26) == "21.3"
    assert COLUMNS["ssim"].text(math.nan) == "–"
    assert not foreign.l1.higher_is_better


def test_a_metric_computes_what_its_function_does():
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ssim(images, images / 2), reference(images, images / 2))
    assert foreign.l1(images, images).tolist() == [0, 0]


def test_a_foreign_metric_describes_its_column():
    assert described("l1", (L1,)) is foreign.l1
    assert described("psnr") is COLUMNS["psnr"]
    assert described("unknown").header == "unknown"


def test_a_foreign_metric_is_one_more_column(tmp_path):
    scenario = small(roles=[LEAK], reconstructions=[ATTACK], metrics=[foreign.l1], rounds=2)
    assert scenario.metrics == (L1,)
    federation = finished(scenario, out=tmp_path / "run")
    table = federation.folder.table("leakage")
    assert list(table.columns)[-1] == "l1"
    leak = federation.reconstruct(round=1, client=0, **PLAIN | {"iterations": 2})
    expected = foreign.l1(leak.originals, leak.rebuilt).tolist()
    assert leak.table()["l1"].tolist() == pytest.approx(expected)
    assert table["l1"].tolist()[:2] == pytest.approx(expected)
    assert ">l1<" in leak._repr_html_()


def test_the_outline_stands_beside_its_chance():
    scenario = small(roles=[LEAK], reconstructions=[ATTACK], metrics=["outline"], rounds=1)
    table = finished(scenario).folder.table("leakage")
    assert list(table.columns)[-2:] == ["outline", "chance_outline"]
    assert table[["outline", "chance_outline"]].notna().all(axis=None)
    assert (table["outline"] <= 1).all()


def test_a_foreign_column_survives_a_resume(tmp_path):
    scenario = small(roles=[LEAK], reconstructions=[ATTACK], metrics=[L1], rounds=2)
    federation = Federation(scenario, out=tmp_path / "run")
    federation.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    whole = finished(scenario).folder.table("leakage")
    again = resumed.folder.table("leakage")
    assert again.drop(columns="seconds").equals(whole.drop(columns="seconds"))


def test_a_metric_of_ours_adds_no_column():
    federation = finished(small(roles=[LEAK], reconstructions=[ATTACK], metrics=["psnr"], rounds=1))
    columns = list(federation.folder.table("leakage").columns)
    assert columns.count("psnr") == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lpip", 'no metric "lpip"'),
        ("tests.foreign_attacks:plain_function", "is no Metric: put @fedlab.metrics"),
        ("tests.foreign_attacks:missing", "has no missing"),
    ],
)
def test_a_name_that_is_no_metric(name, sentence):
    with pytest.raises(BadInput, match=sentence):
        Federation(small(metrics=[name]))


def test_a_metric_that_fails_is_named():
    scenario = small(
        roles=[LEAK], reconstructions=[ATTACK], metrics=["tests.foreign_attacks:wrong_metric"]
    )
    with pytest.raises(PluginFailed, match=r'metric "wrong" returned values of shape \[\]'):
        finished(scenario)
    with pytest.raises(PluginFailed, match='"iip" needs more than images'):
        Metric("iip", "identified")(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
