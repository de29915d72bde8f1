"""Adaptive clipping reaches its quantile, and its noise covers the count of unclipped gradients."""

import math
from itertools import pairwise

import pytest
import torch

from fedlab.core.errors import BadInput
from fedlab.defenses.adaptive_clipping import Quantile, count_noise
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.models import build
from tests.defenses.private import batch, one_by_one, opened
from tests.federations import finished, small


def network():
    return build("convnet", shape=(1, 8, 8), classes=10, width=4)


@pytest.mark.parametrize("start", [0.01, 100.0])
@pytest.mark.parametrize("target", [0.25, 0.5, 0.75])
def test_adaptive_norm_converges_to_the_quantile(target, start):
    model, (images, labels) = network(), batch(64)
    images *= torch.linspace(0.1, 3, 64).view(-1, 1, 1, 1)
    norms = one_by_one(model, images, labels, norm=math.inf).norm(dim=1)
    quantile = Quantile(target=target, lr=0.2, noise=64 / 20)
    bounds = []
    with opened(model, norm=start, noise=1.0, expected=64, clipping=quantile) as gradient:
        for _ in range(250):
            gradient(images, labels)
            bounds.append(gradient.clipping_norm)
    settled = torch.tensor(bounds[-100:])
    share = float((norms < settled.mean()).float().mean())
    assert share == pytest.approx(target, abs=0.08)


def step_of(images, labels, *, bound=1.0):
    """Change of the logarithm of the norm with negligible noise on the count."""
    quantile = Quantile(target=0.5, lr=1.0, noise=1e-9)
    with opened(network(), norm=bound, expected=8, clipping=quantile) as gradient:
        gradient(images, labels)
        return math.log(gradient.clipping_norm / bound)


@pytest.mark.parametrize("bound", [1e-3, 1e3])
def test_one_example_changes_the_count_by_a_half(bound):
    """Theorem 1 assumes this change, which includes the change of the batch size."""
    images, labels = batch(8)
    with_it, without = (step_of(images[n:], labels[n:], bound=bound) for n in (0, 1))
    assert abs(with_it - without) == pytest.approx(0.5 / 8, abs=1e-6)


def test_count_is_divided_by_the_expected_batch_size():
    images, labels = batch(8)
    for size in (0, 2, 8):
        # All are unclipped: each adds b - 1/2 = 1/2, over 8. An empty batch changes nothing.
        assert step_of(images[:size], labels[:size], bound=1e3) == pytest.approx(
            -(size / 2) / 8, abs=1e-6
        )


def test_noise_on_the_count_has_the_set_deviation():
    model, (images, labels) = network(), batch(8)
    quantile, moves = Quantile(target=0.5, lr=1.0, noise=2.0), []
    with opened(model, norm=1.0, noise=1.0, expected=8, clipping=quantile) as gradient:
        for _ in range(400):
            gradient._optimizer.max_grad_norm = 1e3
            gradient(images[:0], labels[:0])
            moves.append(math.log(gradient.clipping_norm / 1e3) * 8)
    assert float(torch.tensor(moves).std()) == pytest.approx(2.0, rel=5 / math.sqrt(2 * 400))
    assert abs(float(torch.tensor(moves).mean())) < 5 * 2.0 / math.sqrt(400)


@pytest.mark.parametrize(
    ("given", "noise", "size", "expected"),
    [(None, 1.0, 100, 5.0), (None, 8.0, 100, 8.0), (7.0, 1.0, 100, 7.0)],
)
def test_default_noise_on_the_count(given, noise, size, expected):
    assert count_noise(given, noise_multiplier=noise, batch_size=size) == expected
    assert expected > noise / 2


def test_too_little_noise_on_the_count_is_refused():
    adaptive = {"name": "dp-sgd", "clipping": "adaptive", "noise_multiplier": 4.0}
    with pytest.raises(BadInput, match="it has to be above 2"):
        small(defenses=[adaptive | {"quantile_noise": 2.0}])
    assert small(defenses=[adaptive | {"quantile_noise": 2.1}])
    assert DPSGD(quantile_noise=0.1)  # flat clipping ignores it


ADAPTIVE = {
    "name": "dp-sgd",
    "clipping": "adaptive",
    "clipping_norm": 5.0,
    "rounds": "1,3-",
    "clients": "1",
}


def test_adaptive_norm_continues_over_a_clients_rounds():
    federation = finished(small(defenses=[ADAPTIVE]))
    own = [e for e in federation.ledger.histories[1] if e.mechanism == "dp-sgd"]
    assert [entry.round for entry in own] == [1, 3, 4]
    assert own[0].clipping_norm == 5.0
    for before, after in pairwise(own):
        assert after.clipping_norm == before.next_clipping_norm
    assert len({entry.next_clipping_norm for entry in own}) == 3
    # The noise multiplier covers the count as well.
    flat = finished(small(defenses=[ADAPTIVE | {"clipping": "flat"}]))
    assert federation.ledger.protected(1) == flat.ledger.protected(1)
