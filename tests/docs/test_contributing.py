"""The defenses and the metric of CONTRIBUTING.md work as the page shows them."""

import re

import pytest

from tests.commands import ROOT
from tests.federations import finished, small

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
HALF, NOISY, METRIC = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MODULE = "\n".join([HALF, NOISY, METRIC])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder of a federation with the page's defenses and metric."""
    path = tmp_path_factory.mktemp("contributed")
    (path / "contributed.py").write_text(MODULE, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path)
        scenario = small(
            rounds=1,
            metrics=["contributed:error"],
            roles=[{"role": "leaking", "clients": "0"}],
            defenses=[
                {"name": "contributed:Half", "clients": "0", "share": 0.2},
                {"name": "contributed:Gaussian", "clients": "1", "noise_multiplier": 4.0},
            ],
            reconstructions=[{"clients": "0", "preset": "fast", "iterations": 2}],
        )
        return finished(scenario).folder


def test_defenses_of_page_run(folder):
    clients = folder.table("clients")
    defenses = ["contributed:Half", "contributed:Gaussian", "none", "none"]
    assert clients["defenses"].tolist() == defenses
    assert set(clients["status"]) == {"ok"}


def test_epsilon_of_page_is_accounted(folder):
    own = folder.table("ledger").set_index("client").loc[1]
    assert (own["unit"], own["adjacency"], own["statement"]) == ("client", "replace-one", "claimed")
    # Noise of 4 clipping norms is 2 times the sensitivity: 2.17 at delta 1e-5 by RDP.
    assert float(own["epsilon_total"]) == pytest.approx(2.166, abs=0.01)


def test_metric_of_page_is_a_column(folder):
    assert folder.table("leakage")["l1_error"].between(0, 1).all()
