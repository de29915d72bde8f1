"""audit_update: from two sets of weights to scores, a verdict and a page."""

import math
import re

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from matplotlib.figure import Figure
from torch.nn import functional

import fedlab
from attacks.knowledge import LocalSGD, PublicImages
from fedlab import Audit, BadInput, audit_update
from fedlab.data.loading import load
from fedlab.integrations.image_files import public_images
from fedlab.models import build
from tests.integrations.plain_app import ADAM_LR, CLASSES, LR, MEAN, SHAPE, STD, Net, digits
from tests.real_images import npz
from tests.report.page.pages import Page, asks_nobody

pytestmark = pytest.mark.xdist_group("audit")
FACTS = {"shape": SHAPE, "classes": CLASSES, "mean": MEAN, "std": STD, "local": LocalSGD(lr=LR)}
FAST = {"preset": "fast", "iterations": 150, "power": False, "device": "cpu"}
TRUTH = digits(2, 1)
PUBLIC = PublicImages(*digits(5, 800))


def trained(count=1, optimiser=torch.optim.SGD, lr=LR, batch=1):
    """Weights before and after an epoch of a client."""
    torch.manual_seed(1)
    model = Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, labels = digits(2, count)
    steps = optimiser(model.parameters(), lr=lr)
    for some in torch.arange(count).split(batch):
        steps.zero_grad()
        outputs = model((images[some] - MEAN[0]) / STD[0])
        functional.cross_entropy(outputs, labels[some]).backward()
        steps.step()
    return before, model.state_dict()


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    """An audit of one image, and the file of its page."""
    page = tmp_path_factory.mktemp("audit") / "made" / "audit.html"
    before, after = trained()
    return audit_update(
        before, after, Net, truth=TRUTH, public=PUBLIC, page=page, **FACTS, **FAST
    ), page


def test_image_of_a_step_leaks_and_is_diagnostic(audit):
    found, _ = audit
    (row,) = found.leak.rows
    assert found.verdict == row.verdict == "leaks"
    assert row.aligned_psnr > row.chance_psnr + 10
    assert row.setting == "diagnostic"
    assert row.reasons == "single gradient step, network not known to be trained"
    assert found.findings == ()
    assert found.table()["label_correct"].tolist() == [True]


def test_page_is_offline_and_says_it_all(audit):
    text = audit[1].read_text("utf-8")
    page = Page(text)
    assert asks_nobody(text)
    assert str(audit[1].parent) not in text
    sections = ["verdict", "threat-model", "consistency", "figures", "tables", "environment"]
    assert [each for each in page.ids if each in sections] == sections
    assert {"figure-images", "figure-chance"} <= set(page.ids)
    for words in (
        "Leak: leaks 1 of 1 image leaks",
        "Threat model D",
        "The setting is diagnostic: single gradient step, network not known to be trained.",
        "SGD with learning rate 0.1, 1 epoch in batches of 1: 1 step.",
        "Labels are inferred from the update",
        "Nothing in the update contradicts what was stated",
        "Membership, the update: AUC",
    ):
        assert words in page.text, words
    assert "safe" not in page.text.lower().replace("safetensors", "")


def test_page_steps_through_the_images(audit):
    data = Page(audit[1].read_text("utf-8")).viewer
    (step,) = data["steps"]
    (image,) = step["images"]
    (row,) = audit[0].leak.rows
    assert image["verdict"] == "leaks"
    assert image["psnr"] == f"{row.aligned_psnr:.1f} dB"
    assert [name for name, _ in image["pictures"]] == ["true", "rebuilt"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"before": "none.pt"}, "none.pt cannot be read: there is no such file"),
        ({"after": "none.safetensors"}, "none.safetensors cannot be read"),
        ({"truth": "none.npz"}, "none.npz cannot be read as .npz"),
        ({"public": "npz:none.npz"}, "none.npz, but there is no such file"),
        ({"public": "digits", "classes": 9}, "give images of the same kind"),
        ({"page": "weights.pt/page.html"}, "is a file"),
    ],
)
def test_a_missing_file_is_one_sentence(tmp_path, monkeypatch, given, sentence):
    monkeypatch.chdir(tmp_path)
    before, after = trained()
    (tmp_path / "weights.pt").write_bytes(b"")
    facts = {"before": before, "after": after, "num_images": 1, **FACTS, **FAST} | given
    with pytest.raises(BadInput, match=re.escape(sentence)):
        audit_update(facts.pop("before"), facts.pop("after"), Net, **facts)


def test_files_give_what_images_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images, labels = TRUTH
    pixels = (images[:, 0] * 255).round().byte().numpy()
    np.savez("truth.npz", images=pixels, labels=labels.numpy())
    before, after = trained()
    few = FACTS | FAST | {"iterations": 3}
    public = public_images("digits", SHAPE, CLASSES)
    named = audit_update(before, after, Net, truth="truth.npz", public="digits", **few)
    truth = torch.from_numpy(pixels)[:, None], labels
    given = audit_update(before, after, Net, truth=truth, public=public, **few)
    assert named.terms.public == len(public.images) > 100
    assert named.table().drop(columns="seconds").equals(given.table().drop(columns="seconds"))


def test_audit_has_a_card(audit, tmp_path):
    found, _ = audit
    written = found.report(tmp_path / "card.md", card=True)
    text = written.read_text("utf-8")
    assert "Leak: leaks. 1 of 1 image leaks" in text
    assert "| all updates | 1 | 1 | 100 % |" in text
    assert "captured replies" not in text
    with pytest.raises(BadInput, match=r"must end in \.html or \.md"):
        found.report(tmp_path / "card.pdf", card=True)


def test_audit_draws_itself(audit):
    assert isinstance(audit[0].plot(), Figure)
    assert "1 of 1 images leak" in audit[0].plot().alt


def test_audit_is_kept_and_read_again(audit, tmp_path):
    audit[0].keep(tmp_path / "audit.npz")
    again = Audit.load(tmp_path / "audit.npz")
    assert repr(again.terms) == repr(audit[0].terms)  # an unmeasured power is NaN
    assert again.membership == audit[0].membership
    assert again.table().equals(audit[0].table())
    assert torch.equal(again.leak.rebuilt, audit[0].leak.rebuilt)


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_damaged_audit_is_refused(tmp_path, content):
    (tmp_path / "audit.npz").write_bytes(content)
    with pytest.raises(BadInput, match="is damaged"):
        Audit.load(tmp_path / "audit.npz")


def test_records_of_flower_give_the_same_images():
    before, after = trained()
    few = FAST | {"iterations": 3}
    plain, record = (
        audit_update(make(before), make(after), Net(), num_images=1, **FACTS, **few)
        for make in (dict, ArrayRecord)
    )
    assert torch.equal(plain.leak.rebuilt, record.leak.rebuilt)
    assert plain.terms.received == record.terms.received


def test_without_truth_nothing_is_scored(tmp_path):
    before, after = trained()
    found = audit_update(before, after, Net, num_images=1, **FACTS, **FAST | {"iterations": 3})
    assert found.verdict == "unscored"
    assert math.isnan(found.leak.rows[0].psnr)
    page = Page(found.report(tmp_path / "page.html").read_text("utf-8"))
    assert "Leak: unscored" in page.text
    assert "Threat model C" in page.text
    assert "network not known to be trained" in found.leak.rows[0].reasons
    assert "figure-chance" not in page.ids


def test_without_public_images_nothing_is_graded(tmp_path):
    before, after = trained()
    found = audit_update(before, after, Net, truth=TRUTH, **FACTS, **FAST)
    (row,) = found.leak.rows
    assert found.verdict == "inconclusive"
    assert row.aligned_psnr > row.chance_psnr + 3
    page = Page(found.report(tmp_path / "page.html").read_text("utf-8"))
    assert "without which nothing is graded" in page.text


def test_wrong_optimiser_is_named_and_inconclusive(tmp_path):
    before, after = trained(optimiser=torch.optim.Adam, lr=ADAM_LR)
    few = FAST | {"iterations": 3}
    found = audit_update(before, after, Net, truth=TRUTH, public=PUBLIC, **FACTS, **few)
    assert "nearly the same size" in found.findings[0]
    assert found.verdict == "inconclusive"
    page = Page(found.report(tmp_path / "page.html").read_text("utf-8"))
    assert "What was stated: in doubt" in page.text
    assert "nearly the same size" in page.text


def test_granted_labels_are_a_reason():
    before, after = trained()
    few = FAST | {"iterations": 3}
    found = audit_update(before, after, Net, labels=TRUTH[1], truth=TRUTH, **FACTS, **few)
    assert found.leak.rows[0].reasons.startswith("labels known")


def test_update_tells_members_from_others():
    before, after = trained(count=20)
    few = FAST | {"iterations": 1}
    found = audit_update(
        before, after, Net, truth=digits(2, 20), public=PUBLIC, **FACTS, **few
    ).membership
    assert (found.members, found.non_members) == (20, 500)
    assert found.auc > 0.55


def test_gradient_has_no_membership_test():
    before, after = trained()
    gradient = {name: (before[name] - after[name]) / LR for name in before}
    facts = {name: value for name, value in FACTS.items() if name != "local"}
    found = audit_update(
        before, gradient, Net, kind="gradient", truth=TRUTH, public=PUBLIC, **facts, **FAST
    )
    assert found.verdict == "leaks"
    assert found.membership is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"truth": (torch.zeros(1, 3, 8, 8), [1])}, r"true images must be \[n, 1, 8, 8\]"),
        ({"truth": (torch.zeros(1, 1, 8, 8), [1, 2])}, "with 2"),
        ({"truth": (torch.zeros(1, 1, 8, 8), [10])}, "classes from 0 to 9"),
        ({"public": PublicImages(PUBLIC.images)}, "labels of the public images are needed"),
        ({"truth": None}, "number of images behind the reply is needed"),
        ({"local": None}, "learning rate is known"),
        ({"preset": "nonsense"}, "nonsense"),
    ],
)
def test_what_does_not_fit_is_refused(changes, sentence):
    before, after = trained()
    given = {"truth": TRUTH, **FACTS, **FAST, **changes}
    with pytest.raises(BadInput, match=sentence) as refused:
        audit_update(before, after, Net, **given)
    assert "\n" not in str(refused.value)


def test_page_is_refused_where_none_can_be(audit, tmp_path):
    with pytest.raises(BadInput, match="is a folder"):
        audit[0].report(tmp_path)


def test_public_api_has_it():
    assert {"Audit", "audit_update"} <= set(dir(fedlab))


@pytest.mark.slow
def test_photograph_of_cifar_leaks_from_two_files(tmp_path):
    """The numbers of one image on an untrained network; see docs/figures.md for more images."""
    data = load(f"npz:{npz('cifar10', tmp_path, '--train', '20', '--test', '512')}")
    images, labels = data.train_images[17:18], data.train_labels[17:18]
    model = build("convnet", shape=data.shape, classes=10, seed=3)
    torch.save(model.state_dict(), tmp_path / "before.pt")
    steps = torch.optim.SGD(model.parameters(), lr=0.01)
    functional.cross_entropy(model((data.pixels(images) - 0.5) / 0.25), labels).backward()
    steps.step()
    torch.save(model.state_dict(), tmp_path / "after.pt")
    found = audit_update(
        tmp_path / "before.pt",
        tmp_path / "after.pt",
        "convnet",
        shape=data.shape,
        classes=10,
        mean=(0.5,),
        std=(0.25,),
        local=LocalSGD(lr=0.01),
        truth=(images, labels),
        public=PublicImages(data.pixels(data.test_images), data.test_labels),
        preset="fast",
        power=False,
        device="cpu",
    )
    assert found.verdict == "leaks"
    assert found.leak.rows[0].aligned_psnr > 35
    assert found.leak.rows[0].chance_psnr < 20


def test_other_images_than_the_true_ones_are_named(tmp_path):
    before, after = trained()
    few = FAST | {"iterations": 3}
    others = (torch.rand(1, *SHAPE), TRUTH[1])
    found = audit_update(before, after, Net, truth=others, public=PUBLIC, **FACTS, **few)
    assert "the true images gives another update" in found.findings[-1]
    assert found.verdict == "inconclusive"


@pytest.mark.parametrize("given", [0, 1])
def test_true_images_must_be_all_of_the_reply(given):
    before, after = trained(count=2, batch=2)
    truth = tuple(each[:given] for each in digits(2, 2))
    with pytest.raises(BadInput, match=f"{given} true ones are given"):
        audit_update(before, after, Net, num_images=2, truth=truth, **FACTS, **FAST)


def test_without_power_nothing_found_is_inconclusive(tmp_path):
    before, after = trained()
    few = FAST | {"iterations": 1}
    found = audit_update(before, after, Net, truth=TRUTH, public=PUBLIC, **FACTS, **few)
    assert found.findings == ()
    assert found.verdict == "inconclusive"
    page = Page(found.report(tmp_path / "page.html").read_text("utf-8"))
    assert "fast, 1 iteration, 1 restart" in page.text
    assert "power was not measured" in page.text
