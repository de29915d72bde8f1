"""Attacks on files of tensors, from Python and from the command line."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from attacks.knowledge import LocalSGD
from attacks.reconstruction import PRESETS, AttackSettings
from fedlab import BadInput
from fedlab.integrations.update_files import Update, reconstruct_update
from fedlab.metrics.images import psnr
from fedlab.report.figures.reconstructions import save
from tests.report.page.pages import Page

MAKE = "tests.integrations.test_update_files:make"
LABEL = 3


def make(shape, classes):
    """A network of the user's own, at weights of the moment."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(8 * height * width, classes),
    )


def make_another(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes))


def digit():
    """A made-up image of 8x8 pixels."""
    image = torch.zeros(1, 1, 8, 8)
    image[..., 1:7, 3:5] = 0.9
    image[..., 2, 2:6] = 0.5
    return image


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A step of SGD by hand: the weights before and after it, and the gradient of that step."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("files")
    model = make((1, 8, 8), 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    functional.cross_entropy(model((digit() - 0.5) / 0.25), torch.tensor([LABEL])).backward()
    gradient = {name: p.grad.clone() for name, p in model.named_parameters()}
    after = {name: before[name] - 0.1 * gradient[name] for name in before}
    save_file(before, folder / "global.safetensors")
    save_file(after, folder / "reply.safetensors")
    save_file(gradient, folder / "gradient.safetensors")
    save_file({"0.bias": before["0.bias"]}, folder / "less.safetensors")
    save_file({**after, "0.bias": after["0.bias"] * torch.nan}, folder / "nan.safetensors")
    (folder / "text.safetensors").write_text("no tensors")
    return folder


def update(files, **changes):
    known = Update(
        before=files / "global.safetensors",
        reply=files / "reply.safetensors",
        model=MAKE,
        shape=(1, 8, 8),
        classes=10,
        labels=(LABEL,),
        local=LocalSGD(0.1),
        mean=(0.5,),
        std=(0.25,),
    )
    return replace(known, **changes)


ATTACK = AttackSettings(iterations=300, tv=1e-4)


class TestInPython:
    def test_weights_after_a_step(self, files):
        found = reconstruct_update(update(files), ATTACK)
        assert found.labels.tolist() == [LABEL]
        assert found.labels_known
        assert float(psnr(digit(), found.images)) > 30

    def test_a_gradient_with_its_label_inferred(self, files):
        given = update(
            files,
            reply=files / "gradient.safetensors",
            kind="gradient",
            num_images=1,
            labels=None,
            local=None,
        )
        found = reconstruct_update(given, ATTACK)
        assert found.labels.tolist() == [LABEL]
        assert not found.labels_known
        assert float(psnr(digit(), found.images)) > 30

    def test_a_difference_of_weights(self, files):
        before, after = (load_file(files / f"{name}.safetensors") for name in ("global", "reply"))
        change = {name: after[name] - tensor for name, tensor in before.items()}
        save_file(change, files / "change.safetensors")
        given = update(files, reply=files / "change.safetensors", kind="difference")
        found = reconstruct_update(given, ATTACK)
        assert float(psnr(digit(), found.images)) > 30
        with pytest.raises(BadInput, match="learning rate"):
            reconstruct_update(replace(given, local=None), ATTACK)

    def test_the_seed_draws_the_start(self, files):
        one, same, other = (
            reconstruct_update(update(files), AttackSettings(iterations=3), seed=seed)
            for seed in (1, 1, 2)
        )
        assert torch.equal(one.images, same.images)
        assert not torch.equal(one.images, other.images)

    def test_weights_of_the_factory_do_not_matter(self, files):
        torch.manual_seed(1)
        one = reconstruct_update(update(files), AttackSettings(iterations=3))
        torch.manual_seed(2)
        other = reconstruct_update(update(files), AttackSettings(iterations=3))
        assert torch.equal(one.images, other.images)

    def test_a_network_of_fedlab_by_name(self, files):
        with pytest.raises(BadInput, match=r"global\.safetensors lacks 1\.weight"):
            reconstruct_update(update(files, model="mlp"), ATTACK)

    def test_reply_may_contain_buffers(self, files, tmp_path):
        from safetensors.torch import load_file

        reply = load_file(files / "reply.safetensors")
        save_file({**reply, "1.running_mean": torch.ones(8)}, tmp_path / "more.safetensors")
        given = update(files, reply=tmp_path / "more.safetensors")
        found = reconstruct_update(given, AttackSettings(iterations=3))
        plain = reconstruct_update(update(files), AttackSettings(iterations=3))
        assert torch.equal(found.images, plain.images)

    def test_watch_receives_the_progress(self, files):
        seen = []
        reconstruct_update(update(files), AttackSettings(iterations=30), watch=seen.append)
        assert seen[-1].iteration == 30

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"local": None}, "learning rate is known"),
            ({"labels": (1, 2), "num_images": 1}, "2 labels were given for 1 images"),
            ({"labels": None}, "number of images behind the reply is needed"),
            ({"mean": None, "std": None}, "give mean and std"),
            ({"mean": None}, "give mean and std"),
            ({"mean": (0.5, 0.5)}, "mean and std need 1 or 1 values, not 2"),
            ({"mean": (127.5,), "std": (127.5,)}, "for pixels from 0 to 255 by 255"),
            ({"num_images": 0, "labels": None}, "no image to reconstruct"),
            ({"num_images": 65, "labels": None}, "averages 65 images; more than 64 are not"),
            ({"model": "tests.integrations.test_update_files:made"}, "has no made"),
            ({"model": "nonsense"}, "there is no model"),
            ({"labels": (12,)}, "label 12"),
            ({"labels": (-1,)}, "label -1"),
            ({"classes": 7}, "different shapes"),
            ({"shape": (1, 9, 9)}, "different shapes"),
            ({"std": (0.0,)}, "std"),
        ],
    )
    def test_what_does_not_fit_is_one_sentence(self, files, changes, sentence):
        with pytest.raises(BadInput, match=sentence) as caught:
            reconstruct_update(update(files, **changes), ATTACK)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("missing", "missing.safetensors cannot be read"),
            ("text", "text.safetensors cannot be read"),
            ("less", "less.safetensors lacks 0.weight"),
            ("nan", "no direction to match"),
            ("global", "no direction to match"),
        ],
    )
    def test_wrong_reply_is_refused(self, files, name, sentence):
        with pytest.raises(BadInput, match=sentence):
            reconstruct_update(update(files, reply=files / f"{name}.safetensors"), ATTACK)

    @pytest.mark.parametrize("name", ["missing", "text", "less"])
    def test_wrong_global_weights_are_refused(self, files, name):
        with pytest.raises(BadInput) as caught:
            reconstruct_update(update(files, before=files / f"{name}.safetensors"), ATTACK)
        assert "\n" not in str(caught.value)


def unexpected(err):
    """Lines of standard error but those of progress, which a busy machine takes long enough for."""
    return [line for line in err.splitlines() if not line.endswith(" left")]


def options(files, **changes):
    given = {
        "--global": files / "global.safetensors",
        "--reply": files / "reply.safetensors",
        "--model": MAKE,
        "--kind": "weights",
        "--local-lr": 0.1,
        "--shape": "1x8x8",
        "--classes": 10,
        "--mean": 0.5,
        "--std": 0.25,
        "--labels": LABEL,
        "--iterations": 300,
    }
    given |= {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    return [part for name, value in given.items() if value is not None for part in (name, value)]


class TestByCommand:
    def test_the_image_is_found_and_drawn(self, fedlab, files, tmp_path, monkeypatch):
        from fedlab.integrations import update_audit as anywhere

        results, attack = [], anywhere.audit_update
        monkeypatch.setattr(
            anywhere,
            "audit_update",
            lambda **given: results.append(attack(**given)) or results[-1],
        )
        code, out, err = fedlab("reconstruct-files", *options(files))
        assert (code, unexpected(err)) == (0, [])
        assert "1 images rebuilt" in out
        assert "unscored" in out
        assert (tmp_path / "rebuilt.png").read_bytes().startswith(b"\x89PNG")
        found = results[0].leak.reconstruction
        assert float(psnr(digit(), found.images)) > 30
        assert found.labels.tolist() == [LABEL]

    def test_gradient_is_attacked_into_a_named_picture(self, fedlab, files, tmp_path):
        given = options(
            files,
            reply=files / "gradient.safetensors",
            kind="gradient",
            local_lr=None,
            labels="inferred",
            num_images=1,
            iterations=3,
            out="deep/mine.png",
        )
        code, out, err = fedlab("reconstruct-files", *given)
        assert (code, unexpected(err)) == (0, [])
        assert "picture: deep/mine.png" in out
        assert (tmp_path / "deep" / "mine.png").is_file()

    @pytest.mark.parametrize(
        ("public", "words"),
        [("digits", "power 0."), (None, "was not measured, which needs public images")],
    )
    def test_power_is_stated(self, fedlab, files, public, words):
        code, out, _ = fedlab(
            "reconstruct-files", *options(files, preset="fast", iterations=2, public=public)
        )
        assert code == 0
        assert words in out
        assert "inconclusive" in out

    def test_public_images_of_another_kind_are_refused(self, fedlab, files):
        code, _, err = fedlab("reconstruct-files", *options(files, classes=9, public="digits"))
        assert code == 2
        assert "give images of the same kind" in err

    def test_a_preview_is_kept_up_to_date(self, fedlab, files, tmp_path, monkeypatch):
        titles = []

        def note(figure, path, **more):
            titles.append((path.name, figure.get_suptitle()))
            save(figure, path, **more)

        monkeypatch.setattr("fedlab.report.figures.reconstructions.save", note)
        monkeypatch.setattr(sys.modules["attacks.reconstruction.watch"], "INTERVAL", 0.0)
        code, _, err = fedlab("reconstruct-files", *options(files, preview="now.png", iterations=3))
        assert (code, unexpected(err)) == (0, [])
        assert [name for name, _ in titles] == [*["now.png"] * 3, "rebuilt.png"]
        assert "restart 0, iteration 1," in titles[0][1]
        assert "iteration 3," in titles[-2][1]
        assert (tmp_path / "now.png").read_bytes().startswith(b"\x89PNG")

    def test_true_images_are_scored_on_a_page(self, fedlab, files, tmp_path):
        pixels = (digit()[:, 0] * 255).round().byte().numpy()
        np.savez(tmp_path / "truth.npz", images=pixels, labels=np.array([LABEL]))
        given = options(files, truth="truth.npz", public="digits", page="made/audit.html")
        code, out, err = fedlab("reconstruct-files", *given, "--no-power")
        assert (code, unexpected(err)) == (0, [])
        assert "Leak: leaks. 1 of 1 image leaks." in out
        assert "page: made/audit.html" in out
        page = Page((tmp_path / "made" / "audit.html").read_text("utf-8"))
        assert "Leak: leaks" in page.text
        assert "reply.safetensors" in page.text
        assert str(files) not in page.text

    def test_a_round_without_captures_is_refused(self, fedlab, files):
        code, _, err = fedlab("reconstruct-files", *options(files), "--client", 0)
        assert code == 2
        assert "name the folder of captures as well" in err

    @pytest.mark.parametrize(
        ("images", "labels", "sentence"),
        [
            (np.zeros((1, 8, 8)), [1], "images must be uint8"),
            (np.zeros((1, 8, 8), np.uint8), [1, 2], "one for each image"),
            (np.zeros((1, 8, 8), np.uint8), ["a"], "labels must be whole numbers"),
            (np.zeros((1, 9, 9), np.uint8), [1], "true images must be"),
        ],
    )
    def test_wrong_truth_is_one_sentence(self, fedlab, files, tmp_path, images, labels, sentence):
        np.savez(tmp_path / "truth.npz", images=images, labels=np.array(labels))
        code, _, err = fedlab("reconstruct-files", *options(files, truth="truth.npz"))
        assert code == 2
        assert sentence in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize("option", [("--order", "average"), ("--no-adapt",)])
    def test_options_of_a_run_are_not_ignored(self, fedlab, files, option):
        code, _, err = fedlab("reconstruct-files", *options(files), *option)
        assert code == 2
        assert f"No such option '{option[0]}'" in err

    @pytest.mark.parametrize("option", [("--device", "cuda"), ("--num-images", 1)])
    def test_options_of_files_are_not_ignored_with_a_run(self, fedlab, option):
        code, _, err = fedlab("reconstruct", "run", "--round", 1, "--client", 0, *option)
        assert code == 2
        assert f"No such option '{option[0]}'" in err

    def test_the_old_form_of_the_command_still_works(self, fedlab, files):
        code, out, err = fedlab("reconstruct", *options(files, iterations=2))
        assert (code, unexpected(err)) == (0, [])
        assert "1 images rebuilt" in out

    def test_a_time_budget(self, fedlab, files):
        code, out, err = fedlab(
            "reconstruct-files", *options(files, seconds=0.5, iterations=1_000_000)
        )
        assert (code, unexpected(err)) == (0, [])
        assert "1 images rebuilt in" in out

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"reply": "missing.safetensors"}, "missing.safetensors cannot be read"),
            ({"global": "missing.safetensors"}, "missing.safetensors cannot be read"),
            ({"model": "tests.integrations.test_update_files:make_another"}, "lacks 1.weight"),
            ({"model": "convnet8"}, "at least 9x9"),
            ({"model": None}, "--global, --reply and --model"),
            ({"reply": None}, "--global, --reply and --model"),
            ({"local-lr": None}, "learning rate is known"),
            ({"local-lr": 0}, "learning rate"),
            ({"local-lr": -0.1}, "learning rate"),
            ({"local-momentum": 1}, "momentum"),
            ({"shape": "8x8"}, "channels x height x width"),
            ({"shape": "1x0x8"}, "channels x height x width"),
            ({"shape": "1,8,8"}, "channels x height x width"),
            ({"labels": "three"}, "whole numbers with commas"),
            ({"labels": "3,5", "num-images": 1}, "2 labels were given for 1 images"),
            ({"labels": "3,5"}, "give --local-batch 2"),
            ({"labels": "inferred"}, "--num-images"),
            ({"classes": None}, "--shape, --classes"),
            ({"shape": None}, "--shape, --classes"),
            ({"mean": None, "std": None}, "give mean and std (--mean and --std)"),
            ({"std": None}, "give mean and std (--mean and --std)"),
            ({"optimiser": "adam", "local-momentum": 0.9}, "set betas instead"),
            ({"labels": "10"}, "label 10"),
            ({"mean": "half"}, "numbers with commas"),
            ({"std": "0"}, "std"),
            ({"preset": "inverted-gradients"}, 'did you mean "inverting-gradients"'),
            ({"seconds": 0}, "seconds"),
            ({"out": "."}, "is a folder"),
            ({"preview": "."}, "is a folder"),
        ],
        ids=lambda value: " ".join(map(str, value.items())) if isinstance(value, dict) else "",
    )
    def test_bad_input_is_one_sentence_and_exit_code_two(self, fedlab, files, changes, sentence):
        code, out, err = fedlab("reconstruct-files", *options(files, iterations=2, **changes))
        assert (code, out) == (2, "")
        assert err.startswith("fedlab: ")
        assert sentence in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ((), "name the folder of a run"),
            (("run",), "--round and --client"),
            (("run", "--round", 1), "--round and --client"),
            (("run", "--round", 1, "--client", 0, "--labels", "3"), '"known" or "inferred"'),
            (("run", "--global", "a", "--reply", "b", "--model", "c"), "name the folder"),
        ],
    )
    def test_neither_a_run_nor_files(self, fedlab, arguments, sentence):
        code, out, err = fedlab("reconstruct", *arguments)
        assert (code, out) == (2, "")
        assert sentence in err
        assert err.count("\n") == 1

    def test_list_names_all_attacks_and_sources(self, fedlab):
        code, out, err = fedlab("reconstruct", "--list")
        assert (code, unexpected(err)) == (0, [])
        for name in PRESETS:
            assert name in out
        assert "2003.14053" in out
        assert "1906.08935" in out
