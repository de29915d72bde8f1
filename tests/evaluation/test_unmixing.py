"""DP-InstaHide's second test: what many rounds of mixtures give away together."""

from functools import partial
from statistics import median

import pytest
import torch

from attacks.reconstruction import AttackSettings, Reconstruction
from fedlab import BadInput, Federation, Scenario
from fedlab.evaluation.unmixing import UnmixedShard, unmix_reconstructions
from fedlab.metrics.images import match, psnr
from tests.report.legible import pixels_of


def federation(*overrides, **tables):
    """The shipped scenario after its last round."""
    made = Federation(Scenario.load("unmixed", overrides).changed(**tables))
    made.run()
    return made


@pytest.fixture(scope="module")
def few():
    """Three rounds, which are too few to un-mix eight images."""
    return federation("rounds=3", "data.test=40")


@pytest.mark.long
def test_un_mixing_shows_what_no_single_mixture_does():
    run = federation()
    seen = []
    found = run.unmix(client=0, preset="fast", iterations=150, watch=seen.append)
    single = [
        row.psnr
        for round in (1, 5, 9, 13)
        for row in run.reconstruct(round=round, client=0, preset="fast", iterations=150).rows
        if row.target == "original"
    ]
    assert (found.client, found.rounds, found.mixtures) == (0, tuple(range(1, 17)), 32)
    assert found.originals.shape == found.rebuilt.shape == (8, 1, 8, 8)
    assert median(found.psnr) > median(single) + 8, (found.psnr, single)
    assert median(found.psnr) > median(found.chance) + 8
    assert found.verdicts.count("leaks") >= 6
    assert [progress.iteration for progress in seen].count(150) == 16  # a look at every end
    # The images are the client's own, each once, and the numbers those of the pairs shown.
    own = run.federated.data.pixels(run.federated.shard(0).images)
    distances = torch.cdist(found.originals.flatten(1), own.flatten(1))
    assert sorted(distances.argmin(1).tolist()) == list(range(8))
    assert psnr(found.originals, found.rebuilt).tolist() == pytest.approx(found.psnr)
    assert "of 8 images leak after un-mixing 32 mixtures" in str(found)
    assert found.show().axes


class TestOfGivenMixtures:
    """Without attacks in between: mixtures as if they had been rebuilt without error."""

    def mixtures(self, federated, rounds=20, *, soft=True):
        shard = federated.shard(0)
        pixels = federated.data.pixels(shard.images)
        found = []
        for number in range(1, rounds + 1):
            generator = torch.Generator().manual_seed(number)
            pairs = torch.stack([torch.randperm(8, generator=generator)[:2] for _ in range(2)])
            hard = torch.nn.functional.one_hot(shard.labels[pairs], 10).float().mean(1)
            labels = hard if soft else hard.argmax(1)
            found.append((number, self.reconstruction(pixels[pairs].mean(1), labels)))
        return shard, found

    def reconstruction(self, images, labels):
        return Reconstruction(images, labels, True, 0.0, torch.zeros(1), 0, 0.0, AttackSettings())

    def unmixed(self, run, given, shard, k=2):
        return unmix_reconstructions(
            given,
            client=0,
            shard=shard,
            data=run.federated.data,
            k=k,
            generator=torch.Generator().manual_seed(0),
        )

    @pytest.mark.parametrize("soft", [True, False])
    def test_all_images_come_out_beside_their_own(self, few, soft):
        shard, given = self.mixtures(few.federated, soft=soft)
        found = self.unmixed(few, given, shard)
        assert min(found.psnr) > 30
        assert set(found.verdicts) == {"leaks"}
        places, chosen = match(found.originals, found.rebuilt)
        assert places.tolist() == chosen.tolist()

    def test_the_figure_has_both_rows_and_a_question(self, few):
        shard, given = self.mixtures(few.federated)
        found = self.unmixed(few, given, shard)
        figure = found.show()
        texts = [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]
        assert any("Can the mixtures of many rounds be un-mixed?" in text for text in texts)
        assert any("40 mixtures of 20 rounds" in text for text in texts)
        assert len(pixels_of(figure)) >= 16

    def test_of_unrelated_mixtures_nothing_is_shown(self, few):
        shard, _ = self.mixtures(few.federated)
        noise = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        given = [(1, self.reconstruction(noise, torch.zeros(40, dtype=torch.int64)))]
        assert "leaks" not in self.unmixed(few, given, shard).verdicts

    def test_nothing_to_find_is_refused(self, few):
        shard, given = self.mixtures(few.federated, rounds=1)
        with pytest.raises(BadInput, match="9 different images cannot be drawn from 8"):
            self.unmixed(few, given, shard, k=9)
        with pytest.raises(BadInput, match="no mixture of client 0"):
            self.unmixed(few, [], shard)


class TestRefusals:
    def refusal(self, run, **options):
        with pytest.raises(BadInput) as caught:
            run.unmix(**{"client": 0, "iterations": 2, **options})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_a_client_or_rounds_without_kept_mixtures(self, few):
        for options in ({"client": 1}, {"client": 99}, {"client": -1}):
            assert "no kept replies under dp-instahide" in self.refusal(few, **options)

    @pytest.mark.parametrize("rounds", ["9", "nonsense", "0"])
    def test_rounds_that_are_none(self, few, rounds):
        assert "round" in self.refusal(few, rounds=rounds)

    def test_rounds_with_another_k(self):
        mixing = {"name": "dp-instahide", "clients": "0"}
        both = [mixing | {"rounds": str(k - 1), "k": k} for k in (2, 3)]
        run = federation("rounds=2", defenses=both)
        assert "with one k" in self.refusal(run)

    def test_a_setting_that_is_none(self, few):
        assert "did you mean" in self.refusal(few, preset="fasst")

    def test_rounds_that_were_toggled_off_do_not_count(self):
        run = Federation(Scenario.load("unmixed", ["rounds=4"]))
        run.step()
        run.toggle("dp-instahide", on=False)
        run.run()
        assert "no kept replies" in self.refusal(run, rounds="2-")


def test_fewer_mixtures_than_images_leave_images_out(few):
    """Three rounds hold six mixtures of eight images: it is said, or they are not called found."""
    found = few.unmix(client=0, preset="fast", iterations=20)
    assert isinstance(found, UnmixedShard)
    assert found.mixtures == 6
    assert "leaks" not in found.verdicts


@pytest.fixture
def command(fedlab, few):
    """Runs ``fedlab reconstruct`` on a run; returns exit code, standard output and error."""
    return partial(fedlab, "reconstruct", few.folder.path)


class TestByCommand:
    OPTIONS = ("--preset", "fast", "--iterations", 5)

    def test_a_run_is_un_mixed_and_drawn(self, command, tmp_path):
        target = tmp_path / "x.png"
        code, out, err = command("--client", 0, "--unmix", "1-2", "--out", target, *self.OPTIONS)
        assert (code, err) == (0, "")
        assert "after un-mixing 4 mixtures" in out
        assert target.read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--client", 0, "--unmix", "nonsense"), "cannot be read"),
            (("--client", 1, "--unmix", "all"), "no kept replies"),
            (("--unmix", "all"), "--round and --client"),
        ],
    )
    def test_bad_input_is_one_sentence(self, command, arguments, sentence):
        code, out, err = command(*arguments, *self.OPTIONS)
        assert (code, out) == (2, "")
        assert sentence in err
        assert err.count("\n") == 1
