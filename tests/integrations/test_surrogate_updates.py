"""Simulated updates for an external one: what they have in common with it, and power."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from attacks.knowledge import Knowledge, LocalSGD, PublicImages
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, AttackSettings
from fedlab.defenses.pruning import pruned
from fedlab.integrations.surrogate_updates import ExternalUpdate
from fedlab.integrations.visible_pruning import pruned_alike, visibly_pruned
from fedlab.metrics.scores import score_images
from fedlab.scenario.tables import Reconstruct

DIGITS = load_digits()
PUBLIC = PublicImages(
    torch.tensor(DIGITS.images / 16).float().unsqueeze(1)[:300], torch.tensor(DIGITS.target)[:300]
)
KNOWN = Knowledge((1, 8, 8), 10, (0.3,), (0.4,), 1, public=PUBLIC)
ATTACK = PRESETS["analytic"]


def external(**changes):
    """The gradient of the first public image, and what is known of the client."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
    state = {name: p.detach().clone() for name, p in model.named_parameters()}
    blank = Payload("gradient", {n: torch.randn_like(t) for n, t in state.items()}, 1, 1)
    return ExternalUpdate(model, state, blank, replace(KNOWN, **changes), seed=0)


def change(update, payload):
    return torch.cat([tensor.flatten() for tensor in update._change(payload).values()])


@pytest.mark.parametrize("share", [0.6, 0.95])
@pytest.mark.parametrize("rule", ["largest", "random"])
def test_surrogates_are_pruned_alike(share, rule):
    update = external()
    (open_, *_) = update._surrogates("some", 1)
    if rule == "largest":
        sent = {n: pruned(t, share=share) for n, t in open_.payload.tensors.items()}
    else:
        sent = {n: t * (torch.rand_like(t) >= share) for n, t in open_.payload.tensors.items()}
    captured = replace(update, payload=replace(open_.payload, tensors=sent))
    for each in captured._surrogates("others", 2):
        for name, tensor in each.payload.tensors.items():
            if rule == "largest":
                assert (tensor != 0).sum() == (sent[name] != 0).sum()
            else:
                assert not tensor[sent[name] == 0].any()
    assert not update._pruned


def test_the_largest_entries_remain():
    generator = torch.Generator().manual_seed(0)
    one, other = (
        {"w": torch.randn(40, 40, generator=generator), "b": torch.randn(40, generator=generator)}
        for _ in range(2)
    )
    captured = {name: pruned(tensor, share=0.9) for name, tensor in one.items()}
    assert visibly_pruned(captured, other)
    found = pruned_alike(other, captured)
    for name, tensor in other.items():
        assert torch.equal(found[name], pruned(tensor, share=0.9))


def test_surrogates_of_adam_move_by_the_learning_rate():
    local = LocalSGD(0.001, optimiser="adam")
    update = external(local=local)
    sent = {name: tensor - 0.001 for name, tensor in update.state.items()}
    update = replace(update, payload=Payload("weights", sent, 1, 1))
    (each,) = update._surrogates("some", 1)
    moved = change(update, each.payload)
    assert float(moved.abs().max()) == pytest.approx(0.001, rel=1e-3)


def power_of(attack, **changes):
    return external(labels=torch.tensor([3]), **changes).power(attack, attack, Reconstruct())


def test_power_is_high_where_images_leak():
    assert power_of(ATTACK) == 1


def test_attack_of_one_iteration_has_no_power():
    assert power_of(AttackSettings(iterations=1)) == 0


def test_power_is_measured_without_the_defense():
    noisy = {"defenses": ("clip-noise",), "update_clipping_norm": 1.0, "update_noise": 10.0}
    assert power_of(ATTACK, **noisy) == 1


@pytest.mark.parametrize(
    ("public", "entry"), [(None, Reconstruct()), (PUBLIC, Reconstruct(power=False))]
)
def test_power_needs_public_images_and_a_wish(public, entry):
    update = external(public=public)
    power = update.power(ATTACK, ATTACK, entry)
    assert power != power


@pytest.mark.parametrize(("power", "verdict"), [(0.25, "inconclusive"), (0.75, "not shown")])
def test_low_power_makes_a_score_inconclusive(power, verdict):
    from attacks.reconstruction import Reconstruction

    found = Reconstruction(torch.full((1, 1, 8, 8), 0.5), torch.tensor([0]), power=power)
    scores = score_images(
        found, PUBLIC.images[:1], labels=[0], public=(PUBLIC.images[1:], PUBLIC.labels[1:])
    )
    assert scores.images[0].verdict == verdict


LEARNED = PRESETS["learned"]
BRIEF = Reconstruct(preset="learned", tuning_iterations=200, power=True)


def test_an_inverter_is_trained_on_public_images():
    update = external()
    (sent, *_) = update._surrogates("some", 1)
    update = replace(update, payload=sent.payload)
    attack = update.tuned(replace(LEARNED, iterations=8), BRIEF)
    assert attack.method.key == "learned from 200 simulated clients in 8 epochs"
    assert float(attack.method.costs.min()) < float(attack.method.costs[0])


def test_parts_of_the_public_images_are_disjoint():
    parts = [external()._with_public(part).knowledge.public.images.flatten(1) for part in range(3)]
    assert [len(part) for part in parts] == [30, 30, 240]
    everything = torch.cat(parts)
    assert torch.equal(everything.sum(0), PUBLIC.images.flatten(1).sum(0))


def test_power_of_an_inverter_uses_the_first_part(monkeypatch):
    seen = []
    monkeypatch.setattr(
        ExternalUpdate,
        "_grades",
        lambda self, update, *_: seen.append(update.images) or ["leaks"],
    )
    update = external()
    assert update.power(LEARNED, PRESETS["analytic"], BRIEF) == 1
    own = update._with_public(0).knowledge.public.images.flatten(1)
    for image in torch.cat(seen).flatten(1):
        assert (own - image).abs().amax(1).min() < 1e-6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"public": None}, "at least 30 public images"),
        ({"defenses": ("quantisation",)}, "has to simulate quantisation"),
        ({"num_images": 9}, "at most 8 images"),
    ],
)
def test_an_inverter_that_cannot_be_trained_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        external(**changes).tuned(LEARNED, BRIEF)
