"""Tests of membership inference on real images, with and without DP-SGD."""

import pytest
import torch

from attacks.knowledge import LocalSGD
from attacks.privacy_audit.lira import by_likelihood_ratio, confidences, shadow_confidences
from attacks.privacy_audit.membership import by_alignment, by_loss, by_loss_drop, judge
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.data.images import ImageData
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.models import build
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking
from fedlab.scenario.tables import Training
from tests.attacks.privacy_audit.clients import CLASSES, SHAPE, clothes

MEMBERS = 100
LOCAL = LocalSGD(lr=0.1, epochs=20, batch_size=20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function that trains a client and returns all that a test needs of it."""
    (own, labels), (others, other_labels) = clothes(tmp_path_factory.mktemp("membership"))
    data = ImageData(
        name="members",
        train_images=own[:MEMBERS],
        train_labels=labels[:MEMBERS],
        test_images=others,
        test_labels=other_labels,
        classes=CLASSES,
        mean=(0.5,),
        std=(0.5,),
    )

    def train(*defenses, **role):
        network = build("convnet", shape=SHAPE, classes=10, width=8, seed=0)
        federated = FederatedData(0, data, (torch.arange(MEMBERS),), network)
        state = federated.state
        training = Training(epochs=LOCAL.epochs, batch_size=LOCAL.batch_size, lr=LOCAL.lr)
        task = ClientTask(
            round=1, client=0, lr=LOCAL.lr, training=training, defenses=defenses, **role
        )
        done = run_client_round(task, federated, state, (), keep_batches=True)
        images = federated.network_input(torch.cat([data.train_images, data.test_images]))
        classes = torch.cat([data.train_labels, data.test_labels])
        return network.eval(), state, done, images, classes

    return train


def scored(client):
    """Each kind of score for the members, then the others."""
    network, state, done, images, labels = client
    payload = done.sent
    after = payload.as_weights(state, lr=LOCAL.lr)
    known = {"images": images, "labels": labels}
    return {
        "loss": by_loss(network, after, {}, **known),
        "drop": by_loss_drop(network, state, after, {}, **known),
        "alignment": by_alignment(network, state, {}, **known, payload=payload, lr=LOCAL.lr),
    }


@pytest.mark.parametrize("kind", ["loss", "drop"])
def test_members_stand_out_without_dp(trained, kind):
    private = DPSGD(noise_multiplier=20.0, clipping_norm=0.1)
    found = [scored(trained(*defenses))[kind] for defenses in ((), (private,))]
    open_, protected = (judge(scores[:MEMBERS], scores[MEMBERS:]) for scores in found)
    assert open_.auc > 0.63
    assert protected.auc < 0.58
    assert (open_.members, open_.non_members) == (100, 1200)
    assert open_.tpr[0.01] is not None
    assert open_.tpr[0.001] is None  # 1200 others cannot show one in a thousand


def test_batch_gradient_reveals_members(trained):
    client = trained(role=Leaking(batch_size=2))
    (batch,) = client[2].batches
    scores = scored(client)["alignment"]
    assert judge(scores[batch.members], scores[MEMBERS:]).auc > 0.95


def test_shadow_clients_beat_the_loss_attack(trained):
    network, state, done, images, labels = trained()
    some = (images[: 2 * MEMBERS], labels[: 2 * MEMBERS])
    shadows, included = shadow_confidences(
        network, state, {}, *some, local=LOCAL, count=16, generator=torch.Generator().manual_seed(3)
    )
    assert included.sum(0).tolist() == [8] * (2 * MEMBERS)
    assert float(shadows[included].mean()) > float(shadows[~included].mean())
    after = done.sent.as_weights(state, lr=LOCAL.lr)
    observed = confidences(network, after, {}, *some)

    def area(scores):
        return judge(scores[:MEMBERS], scores[MEMBERS:]).auc

    online = area(by_likelihood_ratio(observed, shadows, included))
    offline = area(by_likelihood_ratio(observed, shadows, included, variant="offline"))
    assert online > area(by_loss(network, after, {}, *some)) + 0.05
    assert online > 0.7
    assert offline > 0.65


def test_confidence_is_log_odds_of_the_label(trained):
    network, state, _, images, labels = trained(role=Leaking(batch_size=1))
    odds = confidences(network, state, {}, images[:5], labels[:5])
    network.load_state_dict(state)
    chance = network(images[:5]).double().softmax(1)[range(5), labels[:5]]
    torch.testing.assert_close(odds, (chance / (1 - chance)).log(), rtol=1e-5, atol=1e-6)


def test_likelihood_ratio_matches_manual_computation():
    shadows = torch.tensor([[3.0, 0.0], [5.0, 2.0], [1.0, 4.0], [1.0, 6.0]])
    included = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1]]).bool()
    # In: means 4 and 5; out: means 1 and 1. Variances (1+1+1+1)/2 = 2 and (0+0+1+1)/2 = 1.
    observed = torch.tensor([4.0, 1.0])
    online = by_likelihood_ratio(observed, shadows, included)
    half_log = 0.5 * torch.tensor(0.5, dtype=torch.float64).log()
    expected = torch.tensor([9 / 2 - 0.0, 0.0 - 16 / 4], dtype=torch.float64) + half_log
    torch.testing.assert_close(online, expected)
    offline = by_likelihood_ratio(observed, shadows, included, variant="offline")
    torch.testing.assert_close(offline, torch.tensor([3.0, 0.0], dtype=torch.float64))


def test_rates_need_enough_non_members():
    others = torch.arange(10_000.0)
    result = judge(torch.tensor([9_989.5, 20_000.0]), others)
    assert result.tpr == {0.001: 1.0, 0.01: 1.0}
    assert result.auc == pytest.approx(0.9995)


def test_invalid_lira_input_is_refused():
    shadows, never = torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="trained on it"):
        by_likelihood_ratio(torch.zeros(1), shadows, never)
    with pytest.raises(ValueError, match="trained without it"):
        by_likelihood_ratio(torch.zeros(1), shadows, ~never, variant="offline")
    with pytest.raises(ValueError, match="must be even"):
        shadow_confidences(
            torch.nn.Identity(),
            {},
            {},
            torch.zeros(1),
            torch.zeros(1),
            local=LOCAL,
            count=3,
            generator=torch.Generator(),
        )
