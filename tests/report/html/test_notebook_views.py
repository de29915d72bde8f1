"""Notebook views are complete, escaped, and load nothing from a network."""

import pytest
import torch

from attacks.reconstruction import PRESETS, Reconstruction
from fedlab import Federation, Scenario
from fedlab.core.views import show
from fedlab.evaluation.leaks import load_leaks
from fedlab.privacy.ledger import Ledger
from tests.federations import finished, small
from tests.report.page.pages import Page, asks_nobody
from tests.report.tables.test_ledger import LEDGER

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    return finished(
        small(
            name=EVIL,
            rounds=1,
            model={"name": "mlp"},
            roles=[{"role": "leaking", "clients": "0", "batch_size": 2}],
            defenses=[{"name": "dp-instahide", "clients": "0"}],
            reconstructions=[{"clients": "0", "preset": "analytic"}],
        ),
        out=tmp_path_factory.mktemp("runs") / "run",
    )


def shown(thing):
    text = thing._repr_html_()
    assert type(text) in (str,)
    assert asks_nobody(text)
    return Page(text)


def shown_reconstruction(**given):
    text = show(reconstruction(**given), "html")
    assert asks_nobody(text)
    return Page(text)


def test_a_scenario():
    text = shown(Scenario.load("quickstart")).text
    for words in ("quickstart", "digits, iid over 10 clients", "convnet, width 48", "FedAvg"):
        assert words in text
    assert "leak* ■ dp-instahide" in text
    assert EVIL in shown(small(name=EVIL)).text


def test_a_federation_and_its_run(federation):
    for thing, kind in ((federation, "Federation"), (federation.folder, "Run")):
        text = shown(thing).text
        assert f"{kind}: {EVIL}" in text
        assert "round 1 of 1, accuracy 0." in text
        assert str(federation.folder.path) in text
        assert "untrained" in text


def test_a_federation_before_its_first_round():
    assert "round 0 of 4" in shown(Federation(small())).text


def test_a_ledger(federation):
    text = shown(LEDGER).text
    assert "0-1 dp-sgd 1-2 one example" in text
    assert "∞" in text
    assert "No client has taken part yet." in shown(Ledger({})).text
    assert "dp-instahide 1" in shown(federation.folder.ledger()).text


def test_a_leak(federation):
    (leak,) = load_leaks(federation.folder.leak_files[0])
    page = shown(leak)
    (image,) = page.all("img")
    assert image["alt"] == leak.plot().alt
    for row in leak.rows:
        assert f"{row.image} {row.target} {row.graded_psnr:.2f} {row.ssim:.3f}" in page.text
    assert "Reconstructed images of client 0, round 1" in page.text
    assert (
        "labels known, under dp-instahide; honest-but-curious server, diagnostic setting"
        in page.text
    )


def reconstruction(**changes):
    parts = {
        "images": torch.rand(3, 3, 8, 8),
        "labels": torch.tensor([1, 2, 3]),
        "labels_known": False,
        "cost": 0.25,
        "costs": torch.linspace(1, 0.25, 500),
        "restart": 0,
        "seconds": 2.0,
        "attack": PRESETS["fast"],
    }
    return Reconstruction(**(parts | changes))


def test_a_reconstruction():
    page = shown_reconstruction()
    (image,) = page.all("img")
    assert "3 rebuilt images: label 1; label 2; label 3." in image["alt"]
    for words in ("3 rebuilt images", "labels inferred", "cost 0.25 in 500 iterations"):
        assert words in page.text
    assert "matching cost from" in page.text
    assert "2.0 s" in page.text


def test_a_reconstruction_of_soft_labels_and_of_many_images():
    soft = torch.tensor([[0.25, 0.75]]).repeat(20, 1)
    page = shown_reconstruction(images=torch.full((20, 1, 4, 4), torch.nan), labels=soft)
    (image,) = page.all("img")
    assert "16 rebuilt images: label 1 (0.75)" in image["alt"]
    assert "20 rebuilt images, first 16" in page.text


@pytest.mark.parametrize("costs", [[], [0.5], [torch.nan, torch.inf, 0.0]])
def test_a_reconstruction_without_a_course(costs):
    page = shown_reconstruction(costs=torch.tensor(costs, dtype=torch.float32))
    assert "matching cost" not in page.text
