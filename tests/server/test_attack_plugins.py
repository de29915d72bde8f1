"""Plug-ins of the adversary: by name, import path and object, and what a broken one costs."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from attacks.reconstruction import PRESETS, AttackSettings
from fedlab.core import attack_plugins as plugins
from fedlab.core.errors import BadInput
from fedlab.core.plugins import PluginFailed
from fedlab.core.views import show
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import attack_of
from fedlab.simulation.foreign_plugins import foreign_plugins
from tests import foreign_attacks as foreign
from tests.federations import PLAIN, finished, small

HERE = "tests.foreign_attacks"
LEAK = {"role": "leaking", "clients": "0", "batch_size": 2}


@pytest.fixture(scope="module")
def federation():
    return finished(small(roles=[LEAK], rounds=1, captures={"keep": "all"}))


def attacked(federation, **settings):
    return federation.reconstruct(round=1, client=0, **(PLAIN | settings))


class TestNames:
    def test_registries_know_all_builtin_names(self):
        assert plugins.PRESETS.names[: len(PRESETS)] == tuple(PRESETS)
        assert {"optimise", "analytic"} <= set(plugins.ATTACKS.names)
        for registry in (plugins.ATTACKS, plugins.OBJECTIVES, plugins.PRIORS, plugins.LABEL_RULES):
            for name in registry.builtin:
                assert registry.get(name)
        assert all(plugins.PRESETS.get(name) is PRESETS[name] for name in PRESETS)

    @pytest.mark.parametrize(
        ("key", "wrong", "near"),
        [
            ("preset", "inverting-gradient", "inverting-gradients"),
            ("objective", "cosin", "cosine"),
            ("method", "optimize", "optimise"),
            ("label_rule", "idgl", "idlg"),
        ],
    )
    def test_an_unknown_name_gets_the_nearest(self, key, wrong, near):
        with pytest.raises(BadInput, match=f'"{wrong}"; did you mean "{near}"'):
            small(reconstructions=[{key: wrong}])

    def test_an_unknown_prior_gets_the_nearest(self):
        with pytest.raises(BadInput, match='did you mean "total-variation"'):
            small(reconstructions=[{"priors": {"total-variaton": 0.1}}])

    def test_weights_are_at_least_zero(self):
        with pytest.raises(BadInput, match="greater than or equal to 0"):
            small(reconstructions=[{"priors": {"norm": -0.1}}])

    def test_choices_survive_toml(self):
        entry = {
            "method": f"{HERE}:grey",
            "objective": "l2",
            "priors": {"norm": 0.1, f"{HERE}:brightness": 0.2},
            "label_rule": "joint",
        }
        scenario = small(reconstructions=[entry], metrics=[f"{HERE}:l1"])
        assert Scenario.parse(scenario.to_toml()) == scenario
        assert scenario.reconstructions[0].priors == (("norm", 0.1), (f"{HERE}:brightness", 0.2))

    def test_cache_keys_name_every_foreign_choice(self):
        entry = {
            "preset": f"{HERE}:QUICK",
            "objective": f"{HERE}:largest_error",
            "priors": {f"{HERE}:brightness": 0.2},
        }
        scenario = small(reconstructions=[entry], metrics=[f"{HERE}:l1"])
        expected = {f"{HERE}:{name}" for name in ("QUICK", "largest_error", "brightness", "l1")}
        assert set(foreign_plugins(scenario)) == expected

    def test_a_scenario_is_read_without_torch(self):
        code = (
            "import sys; from fedlab.scenario.scenario import Scenario;"
            "Scenario.load('quickstart'); assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestSettings:
    def test_builtin_choices_stay_names(self):
        made = attack_of(Reconstruct(objective="l1", label_rule="llg", method="analytic"))
        assert (made.objective, made.label_rule, made.method) == ("l1", "llg", "analytic")

    def test_builtin_priors_replace_the_presets_weights(self):
        made = attack_of(Reconstruct(priors={"total-variation": 0.5, "norm": 0.25}))
        assert made == replace(PRESETS["auto"], tv=0.5, norm=0.25)

    def test_foreign_priors_are_added(self):
        entry = Reconstruct(preset="fast", priors={f"{HERE}:brightness": 0.5})
        ((prior, weight),) = attack_of(entry).priors
        assert (prior.key, weight) == (f"{HERE}:brightness", 0.5)
        assert attack_of(entry).tv == PRESETS["fast"].tv

    def test_presets_are_settings_or_functions(self):
        assert attack_of(Reconstruct(preset=f"{HERE}:QUICK")) == foreign.QUICK
        assert attack_of(Reconstruct(preset=f"{HERE}:slower")).iterations == 5
        assert attack_of(Reconstruct(preset=f"{HERE}:QUICK", iterations=9)).iterations == 9

    def test_a_preset_of_another_type_is_refused(self):
        with pytest.raises(BadInput, match="returned dict, not AttackSettings"):
            attack_of(Reconstruct(preset=f"{HERE}:broken_preset"))
        with pytest.raises(BadInput, match="is neither an AttackSettings nor a function"):
            attack_of(Reconstruct(preset=f"{HERE}:__doc__"))

    def test_objects_are_taken_for_their_import_path(self):
        entry = Reconstruct(objective=foreign.largest_error, preset=foreign.slower)
        assert entry.objective == f"{HERE}:largest_error"
        assert entry.preset == f"{HERE}:slower"

    def test_attacks_take_objects_without_fedlab(self):
        made = AttackSettings(objective=foreign.largest_error, priors=((foreign.brightness, 0.1),))
        assert made.weighted_priors[-1] == (foreign.brightness, 0.1)


class TestRuns:
    def test_a_foreign_method_makes_the_images(self, federation):
        leak = attacked(federation, method=f"{HERE}:grey")
        assert torch.equal(leak.rebuilt, torch.full_like(leak.rebuilt, 0.5))
        row = leak.rows[0]
        assert row.psnr < row.chance_grey  # chance has the image's own mean colour
        assert leak.reconstruction.labels_known
        assert f"{HERE}:grey" in show(leak.reconstruction, "html")

    def test_a_foreign_objective_is_named_in_the_rows(self, federation):
        leak = attacked(federation, objective=foreign.largest_error, iterations=3)
        assert {row.objective for row in leak.rows} == {f"{HERE}:largest_error"}
        plain = attacked(federation, iterations=3)
        assert not torch.equal(leak.rebuilt, plain.rebuilt)

    @pytest.mark.parametrize("prior", ["brightness", "bright_features"])
    def test_a_foreign_prior_changes_the_images(self, federation, prior):
        plain = attacked(federation, preset="fast", iterations=3)
        leak = attacked(federation, preset="fast", iterations=3, priors={f"{HERE}:{prior}": 1.0})
        assert not torch.equal(leak.rebuilt, plain.rebuilt)

    def test_a_foreign_label_rule_infers(self, federation):
        leak = attacked(
            federation, labels="inferred", label_rule=f"{HERE}:always_three", iterations=2
        )
        assert leak.reconstruction.labels.tolist() == [3, 3]

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            (
                {"objective": f"{HERE}:failing_objective"},
                'objective "tests.foreign_attacks:failing_objective" failed: KeyError',
            ),
        ],
    )
    def test_one_that_raises_is_named(self, federation, settings, sentence):
        with pytest.raises(PluginFailed, match=sentence):
            attacked(federation, **settings)

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"method": f"{HERE}:nothing"}, "nothing returned NoneType, not a Reconstruction"),
            (
                {"labels": "inferred", "label_rule": f"{HERE}:too_few"},
                "too_few returned 0 labels for 2 images",
            ),
            ({"objective": f"{HERE}:missing"}, "has no missing"),
            ({"objective": "nowhere.at_all:loss"}, "cannot be imported"),
            ({"objective": f"{HERE}:QUICK"}, "is no function"),
        ],
    )
    def test_a_broken_one_costs_a_sentence(self, federation, settings, sentence):
        with pytest.raises(BadInput, match=sentence):
            attacked(federation, **settings)

    def test_a_broken_one_is_refused_before_the_run(self):
        with pytest.raises(BadInput, match="has no missing"):
            finished(small(roles=[LEAK], reconstructions=[{"objective": f"{HERE}:missing"}]))
