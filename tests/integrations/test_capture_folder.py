"""A folder that observe wrote is attacked, scored and reported like a run."""

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg

from attacks.knowledge import LocalSGD, PublicImages
from fedlab import Audit, BadInput, observe
from fedlab.integrations.capture_folder import CaptureFolder, audit_capture
from tests.integrations.plain_app import CLASSES, LR, MEAN, SHAPE, STD, Net, digits
from tests.integrations.test_observer import run
from tests.report.page.pages import Page, asks_nobody

pytestmark = pytest.mark.xdist_group("captures")
FACTS = {"model": Net, "shape": SHAPE, "classes": CLASSES, "mean": MEAN, "std": STD}
FEW = {"preset": "fast", "iterations": 3, "power": False, "device": "cpu"}
OPTIONS = (
    *("--model", "tests.integrations.plain_app:Net", "--shape", "1x8x8", "--classes", CLASSES),
    *("--mean", MEAN[0], "--std", STD[0], "--preset", "fast", "--device", "cpu"),
)


@pytest.fixture
def captures(tmp_path):
    """One round of the app, each client with a single digit and a single step."""
    observed = observe(FedAvg(), tmp_path / "captures", local=LocalSGD(lr=LR))
    run(observed, rounds=1, named=True)
    return observed


@pytest.fixture
def truth(tmp_path):
    """Options with a file of the true image of client 2."""
    images, labels = digits(2, 1)
    pixels = (images[:, 0] * 255).round().byte().numpy()
    np.savez(tmp_path / "truth.npz", images=pixels, labels=labels.numpy())
    return "--truth", "truth.npz"


def test_command_attacks_scores_and_reports(fedlab, captures, truth, tmp_path):
    which = ("--round", 1, "--client", 2)
    code, out, err = fedlab(
        *("reconstruct", "captures", *which, *OPTIONS, *truth, "--public", "digits"),
        *("--iterations", 150, "--no-power"),
    )
    assert (code, err) == (0, "")
    assert "Leak: leaks. 1 of 1 image leaks." in out
    picture = "captures/reconstructions/round-0001-client-00002.png"
    assert f"picture: {picture}" in out
    assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    code, out, err = fedlab("report", "captures")
    assert (code, err) == (0, "")
    assert out.startswith("page: captures/report.html")
    text = (tmp_path / "captures" / "report.html").read_text("utf-8")
    page = Page(text)
    assert asks_nobody(text)
    assert "1 of 1 image leaks" in page.text
    assert "4 captures" in page.text
    assert "Captured replies (4 rows)" in page.text
    assert "tests.integrations.plain_app:Net" in page.text


def test_folder_that_nobody_attacked_is_reported(fedlab, captures, tmp_path):
    assert fedlab("report", "captures", "--out", "page.html")[0] == 0
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert "No captured reply was attacked yet" in page.text
    assert "Leak: inconclusive" in page.text


def test_python_does_what_the_command_does(captures, tmp_path):
    given = {"truth": digits(2, 1), "public": PublicImages(*digits(5, 300)), **FACTS, **FEW}
    first = captures.audit(round=1, client=2, **given)
    audit_capture(captures.folder, round=1, client=0, num_images=1, **FACTS, **FEW)
    again = captures.audit(round=1, client=2, **given)
    assert isinstance(first, Audit)
    kept = CaptureFolder(captures.folder).audits
    assert [each.name for each in kept] == ["round 1, client 0", "round 1, client 2"]
    assert [each.verdict for each in kept] == ["unscored", again.verdict]
    assert again.table().drop(columns="seconds").equals(first.table().drop(columns="seconds"))


def test_updates_share_their_threat_model(captures, tmp_path):
    from fedlab.report.page.audit_page import write_audits

    for client in (0, 1):
        captures.audit(round=1, client=client, **FACTS, **FEW)
    page = Page(write_audits(CaptureFolder(captures.folder), tmp_path / "p.html").read_text())
    assert page.text.count("Honest but curious") == 1
    assert "2 images reconstructed, but neither scored nor graded" in page.text


def test_damaged_audit_costs_only_itself(fedlab, captures, tmp_path):
    captures.audit(round=1, client=0, **FACTS, **FEW)
    (captures.folder / "reconstructions" / "round-0001-client-00001.npz").write_bytes(b"damaged")
    code, _, err = fedlab("report", "captures")
    assert code == 1
    assert "lacks what could not be read" in err
    page = Page((captures.folder / "report.html").read_text("utf-8"))
    assert "Damaged file" in page.text
    assert "1 image reconstructed" in page.text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--client", 2), "name the capture and the network: --round, --client and --model"),
        (("--round", 1, "--client", 9), "no reply of client 9 was kept in round 1"),
        (("--round", 1, "--client", 2, "--kind", "gradient"), "leave --kind out"),
        (("--round", 1, "--client", 2, "--set", "model.depth=2"), "unexpected keyword"),
        (("--round", 1, "--client", 2, "--set", "depth=2"), "write it as --set model.width=8"),
        (("--round", 1, "--client", 2, "--global", "a"), "or files with --global and --reply"),
        (("--round", 1, "--client", 2, "--page", "."), "is a folder"),
        (("--round", 1, "--client", 2, "--truth", "none.npz"), "cannot be read as .npz"),
    ],
)
def test_bad_input_is_one_sentence(fedlab, captures, options, sentence):
    code, _, err = fedlab("reconstruct-files", "captures", *OPTIONS, *options)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_folders_without_captures_are_refused(fedlab, tmp_path):
    (tmp_path / "empty").mkdir()
    which = ("--round", 1, "--client", 0)
    code, _, err = fedlab("reconstruct-files", "empty", *which, *OPTIONS)
    assert (code, "holds no captures" in err) == (2, True)
    code, _, err = fedlab("report", "empty")
    assert (code, "nor captures of fedlab.observe" in err) == (2, True)


def test_captures_have_a_card(fedlab, captures, tmp_path):
    given = {"truth": digits(2, 1), "public": PublicImages(*digits(5, 300)), **FACTS, **FEW}
    captures.audit(round=1, client=2, **given)
    code, out, err = fedlab("report", "captures", "--card")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["card: captures/card.html", "card: captures/card.md"]
    text = (tmp_path / "captures" / "card.html").read_text("utf-8")
    assert asks_nobody(text)
    words = Page(text).text
    for sentence in (
        "3 of 4 captured replies were not attacked.",
        "The power of fast was not measured",
        "Threat model D: the server",
        "No differential privacy was accounted for, so nothing is certified",
        "Seed 0; Python ",
    ):
        assert sentence in words, sentence
    assert "No membership test" not in words
    assert "surrogate" not in words


def test_card_of_unattacked_captures_says_so(fedlab, captures, tmp_path):
    assert fedlab("report", "captures", "--card", "--out", "card.md")[0] == 0
    text = (tmp_path / "card.md").read_text("utf-8")
    assert "4 of 4 captured replies were not attacked. Nothing is known about them." in text
    assert "no threat model of reconstruction was tested" in text
    assert "No membership test is part of this page" in text


def test_mode_and_training_can_be_told_later(fedlab, captures):
    which = ("--round", 1, "--client", 2, "--iterations", 3)
    code, _, err = fedlab(
        *("reconstruct", "captures", *which, *OPTIONS, "--local-lr", LR, "--mode", "eval")
    )
    assert (code, err) == (0, "")
    (audit,) = CaptureFolder(captures.folder).audits
    assert (audit.terms.training_mode, audit.terms.local.lr) == (False, LR)
    assert "evaluation mode" in audit.leak.rows[0].reasons


def test_captures_must_be_a_folder_of_captures():
    with pytest.raises(BadInput, match="holds no captures"):
        audit_capture("nowhere", round=1, client=0, **FACTS)
