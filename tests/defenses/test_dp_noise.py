"""The noise of DP-SGD is normal, has the set deviation and never repeats."""

import math

import pytest
import torch
from scipy import stats

from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.defenses.private_gradient import system_entropy
from fedlab.models import build
from fedlab.protocol.planning import task_for
from tests.defenses.contexts import seeded
from tests.defenses.private import IDS, QUANTILE, WAYS, batch, flat, opened
from tests.federations import small

NORM, NOISE, EXPECTED = 0.7, 1.3, 6


def network():
    return build("convnet", shape=(1, 8, 8), classes=10, width=8)


def draws(count, images, **settings):
    """Noise of ``count`` gradients of the same batch, ``[count, parameters]``."""
    x, y = (part[:images] for part in batch())
    quiet, noisy = (network() for _ in range(2))
    with opened(quiet, norm=NORM, expected=EXPECTED, **settings) as gradient:
        gradient(x, y)
        signal = flat(quiet)
    drawn = []
    with opened(noisy, norm=NORM, noise=NOISE, expected=EXPECTED, **settings) as gradient:
        for _ in range(count):
            gradient._optimizer.max_grad_norm = NORM  # adaptive clipping changes it
            gradient(x, y)
            drawn.append(flat(noisy) - signal)
    return torch.stack(drawn).double()


@pytest.mark.parametrize("secure", [False, True], ids=["usual", "secure"])
@pytest.mark.parametrize("images", [0, 6], ids=["empty batch", "full batch"])
@pytest.mark.parametrize(("clipping", "mode"), WAYS, ids=IDS)
def test_dp_noise_has_the_set_deviation(clipping, mode, images, secure):
    drawn = draws(20, images, clipping=clipping, mode=mode, secure=secure)
    deviation = NOISE * NORM / EXPECTED
    if clipping == QUANTILE:  # the gradients get more noise since the count gets some
        deviation = (NOISE**-2 - (2 * QUANTILE.noise) ** -2) ** -0.5 * NORM / EXPECTED
    scaled = drawn.flatten().numpy() / deviation
    # Five sigma of the chi-square distribution, whose variance is twice its degrees of freedom.
    assert (scaled**2).sum() == pytest.approx(len(scaled), abs=5 * math.sqrt(2 * len(scaled)))
    assert stats.kstest(scaled, "norm").pvalue > 1e-4
    # Draws and parameters are uncorrelated.
    correlation = torch.corrcoef(drawn[:2])[0, 1]
    assert abs(float(correlation)) < 5 / math.sqrt(drawn.shape[1])


def test_same_seed_gives_the_same_noise():
    results = []
    for seed in (1, 1, 2):
        model = network()
        with opened(model, noise=1.0, seed=seed) as gradient:
            gradient(*batch())
            results.append(flat(model))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(("clipping", "mode"), WAYS, ids=IDS)
def test_secure_noise_is_the_sum_of_four_draws(clipping, mode):
    """The digits of one Gaussian draw reveal what was added (arXiv 2107.10138, section 5.1)."""
    model, same = network(), seeded(5)
    images, labels = (part[:0] for part in batch())
    with opened(
        model, noise=NOISE, expected=1, norm=1.0, seed=5, clipping=clipping, mode=mode, secure=True
    ) as gradient:
        gradient(images, labels)
        found = flat(model)
    deviation = NOISE
    if clipping == QUANTILE:
        deviation = (NOISE**-2 - (2 * QUANTILE.noise) ** -2) ** -0.5
    wanted = []
    for parameter in model.parameters():
        torch.normal(0.0, deviation, (1, 1), generator=same)
        four = [torch.normal(0.0, deviation, parameter.shape, generator=same) for _ in range(4)]
        wanted.append(sum(four).flatten() / 2)
    torch.testing.assert_close(found, torch.cat(wanted))


def test_system_entropy_never_repeats():
    one, other = (torch.randn(8, generator=system_entropy(torch.device("cpu"))) for _ in range(2))
    assert not torch.equal(one, other)


def noise_of(scenario, *, round=1, client=0, history=()):
    """The noise in a client's update, by the difference from a noiseless replay."""
    federated = FederatedData.of(scenario)
    task = task_for(scenario, round=round, client=client)
    loud, quiet = (
        run_client_round(task, federated, federated.state, history, noiseless=noiseless)
        for noiseless in (False, True)
    )
    difference = torch.cat(
        [
            (loud.sent.tensors[name] - quiet.sent.tensors[name]).flatten()
            for name in loud.sent.tensors
        ]
    )
    return difference, loud.history


LOUD = {"name": "dp-sgd", "noise_multiplier": 50.0, "clipping_norm": 0.01}
ONE_STEP = [{"role": "leaking", "batch_size": 4}]


@pytest.mark.parametrize(
    "more", [{}, {"clipping": "adaptive"}, {"secure_noise": True}, {"memory": 0.1}]
)
def test_clients_rounds_and_repeats_never_share_noise(more):
    """A repeated round has the history of the first attempt, which was already sent."""
    scenario = small(defenses=[LOUD | more], roles=ONE_STEP)
    first, history = noise_of(scenario)
    again, longer = noise_of(scenario, history=history)
    other, _ = noise_of(scenario, client=1)
    later, _ = noise_of(scenario, round=2, history=longer)
    found = torch.stack([first, again, other, later])
    correlations = torch.corrcoef(found) - torch.eye(4)
    assert float(correlations.abs().max()) < 5 / math.sqrt(found.shape[1])
    same, _ = noise_of(scenario)
    assert torch.equal(first, same) is ("secure_noise" not in more)
