"""Which earlier updates of a client are attacked jointly with a later one."""

import pytest

from fedlab.core.errors import BadInput
from fedlab.evaluation.earlier_rounds import earlier_captures
from fedlab.evaluation.surrogates import ClientProfile, surrogate_captures
from fedlab.integrations.external_update import reconstruction_entry
from fedlab.protocol.planning import task_for
from fedlab.server.captures import Capture
from tests.federations import finished, small

FEW = "data.train=16"  # four images for each client
EPOCHS = ("training.epochs=2", "training.batch_size=2")
JOINTLY = {"clients": "0", "rounds": "3", "iterations": 1, "rounds_jointly": 2}
BATCH = {"role": "leaking", "clients": "0", "batch_size": 4}


def attacked(*overrides, attack=JOINTLY, **tables):
    """The rows of an attack in round 3."""
    federation = finished(small(FEW, "rounds=3", *overrides, reconstructions=[attack], **tables))
    rows = federation.folder.table("leakage")
    return federation, rows[rows["target"] == "original"]


def test_updates_of_all_images_are_attacked_jointly():
    federation, rows = attacked()
    assert (rows["rounds_jointly"] == 2).all()
    assert not rows["reasons"].str.contains("same batch").any()
    kept = [Capture.kept(federation.folder.captures, number, 0) for number in (1, 2, 3)]
    assert kept == [True, True, True]
    assert not Capture.kept(federation.folder.captures, 2, 1)


def test_no_more_rounds_than_there_are():
    _, rows = attacked(attack=JOINTLY | {"rounds_jointly": 9})
    assert (rows["rounds_jointly"] == 3).all()


def test_rounds_of_one_batch_are_granted():
    _, rows = attacked(roles=[BATCH])
    assert (rows["rounds_jointly"] == 2).all()
    assert rows["reasons"].str.contains("rounds of the same batch known").all()


def test_other_batches_are_left_out():
    _, rows = attacked(roles=[BATCH | {"batch_size": 2}])
    assert (rows["rounds_jointly"] == 1).all()
    assert not rows["reasons"].str.contains("same batch").any()


@pytest.mark.parametrize(
    "defense", [{"name": "dp-instahide", "k": 2}, {"name": "flip-crop"}, {"name": "mixup"}]
)
def test_changed_images_are_attacked_alone(defense):
    _, rows = attacked(defenses=[defense])
    assert (rows["rounds_jointly"] == 1).all()


def test_noise_on_updates_leaves_the_images():
    noise = {"name": "clip-noise", "noise_multiplier": 0.1, "clipping_norm": 1.0}
    _, rows = attacked(defenses=[noise])
    assert (rows["rounds_jointly"] == 2).all()


def test_a_later_question_finds_earlier_rounds():
    federation, _ = attacked(*EPOCHS)
    settings = {"preset": "fast", "iterations": 1, "power": False, "local_steps": "surrogate"}
    leak = federation.reconstruct(round=3, client=0, rounds_jointly=3, **settings)
    assert leak.reconstruction.rounds == 3
    assert leak.reconstruction.attack.local_steps == "surrogate"


def test_orders_of_rounds_refer_to_the_same_images():
    federation, _ = attacked(*EPOCHS, captures={"keep": "all"})
    evaluator, histories = federation._evaluator, federation._loop.histories
    early, late = (
        Capture.load(federation.folder.captures, round=number, client=0) for number in (1, 3)
    )
    truths = [evaluator._truth(each, None, histories) for each in (early, late)]
    order = truths[0].order_in(truths[1])
    inputs = federation.federated.data.normalise(truths[1].inputs)
    found = evaluator.attacker.consistency(early, inputs, truths[1].labels, order)
    assert found.cosine > 0.99999
    other = evaluator.attacker.consistency(early, inputs, truths[1].labels, truths[1].order)
    assert other.cosine < found.cosine


@pytest.mark.parametrize("roles", [[], [BATCH]], ids=["weights", "gradient"])
def test_simulated_clients_send_their_images_in_every_round(roles):
    federation, _ = attacked(*EPOCHS, roles=roles, captures={"keep": "all"})
    early, late = (
        Capture.load(federation.folder.captures, round=number, client=0) for number in (1, 3)
    )
    task = task_for(federation.scenario, round=3, client=0)
    (found,) = surrogate_captures(
        federation.federated,
        [ClientProfile(task, (), 4)],
        late,
        numbers=range(1),
        earlier=[early],
    )
    (before,) = found.earlier
    assert before.capture.global_digest == early.global_digest
    attacker = federation._evaluator.attacker
    inputs = federation.federated.data.normalise(found.truth.inputs)
    again = attacker.consistency(before.capture, inputs, found.truth.labels, before.order)
    assert again.cosine > 0.99999


@pytest.mark.slow
def test_auto_tunes_itself_on_as_many_rounds():
    auto = {"preset": "auto", "power": True, "iterations": 2, "tuning_iterations": 12}
    _, rows = attacked(attack=JOINTLY | auto)
    assert (rows["rounds_jointly"] == 2).all()
    assert rows["choice"].str.contains("tv").all()
    assert rows["power"].between(0, 1).all()


def test_update_files_have_no_earlier_rounds():
    with pytest.raises(BadInput, match="rounds_jointly is for runs of a scenario"):
        reconstruction_entry({"rounds_jointly": 2})


def test_rounds_of_other_noise_are_left_aside():
    noise = {"name": "clip-noise", "rounds": "1-2"}
    federation, _ = attacked(*EPOCHS, captures={"keep": "all"}, defenses=[noise])
    for number, expected in ((2, [1]), (3, [])):
        capture = Capture.load(federation.folder.captures, round=number, client=0)
        found = earlier_captures(federation.folder.captures, capture, federation.scenario, rounds=3)
        assert [each.round for each in found] == expected
