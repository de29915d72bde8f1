"""The tangent kernel against its closed form for linear networks, and against autograd."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from fedlab.core.errors import BadInput
from fedlab.evaluation import tangent_kernel as module
from fedlab.evaluation.tangent_kernel import TangentKernel, tangent_kernel
from tests.federations import finished, small


def images(n=5):
    return torch.randn(n, 1, 3, 3, generator=torch.Generator().manual_seed(0))


def test_linear_network_has_its_closed_form():
    network, x = nn.Sequential(nn.Flatten(), nn.Linear(9, 4)), images()
    rows = x.flatten(1).double().numpy()
    # d(Wx + b)_c / dW_c = x and d(Wx + b)_c / db_c = 1; other classes have other weights.
    expected = np.kron(rows @ rows.T + 1, np.eye(4))
    np.testing.assert_allclose(tangent_kernel(network, x).matrix.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("columns", [2**16, 7])
def test_deep_network_has_autograds_jacobian(monkeypatch, columns):
    monkeypatch.setattr(module, "COLUMNS", columns)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
    network.append(nn.Linear(12, 4))
    network.eval()
    x = images()
    weights = {name: p.detach() for name, p in network.named_parameters()}
    found = jacrev(lambda w: functional_call(network, w, (x,)))(weights)
    rows = torch.cat([part.flatten(2) for part in found.values()], dim=2).flatten(0, 1).double()
    kernel = tangent_kernel(network.train(), x)
    torch.testing.assert_close(kernel.matrix, rows @ rows.T, rtol=1e-4, atol=1e-5)
    assert network.training


def test_correlation_and_norm_are_numpys():
    draws = torch.Generator().manual_seed(0)
    one, other = (
        TangentKernel(torch.randn(6, 6, generator=draws, dtype=torch.float64)) for _ in range(2)
    )
    pair = np.corrcoef(one.matrix.numpy().ravel(), other.matrix.numpy().ravel())
    assert one.correlation(other) == pytest.approx(pair[0, 1])
    assert one.correlation(one) == pytest.approx(1)
    assert one.norm == pytest.approx(np.linalg.norm(one.matrix.numpy()))


def test_unused_weights_have_no_part():
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 4))
    expected = tangent_kernel(network, images()).matrix
    network.register_parameter("unused", nn.Parameter(torch.ones(3)))
    assert torch.equal(tangent_kernel(network, images()).matrix, expected)


def test_training_moves_the_kernel_of_a_federation():
    federation = finished(small(rounds=1))
    first = federation.ntk(images=6)
    assert first.matrix.shape == (60, 60)
    assert first.correlation(federation.ntk(images=6)) == pytest.approx(1)
    again = finished(small(rounds=4))
    assert 0.1 < again.ntk(images=6).correlation(first) < 0.999
    with pytest.raises(BadInput, match="at least one image"):
        federation.ntk(images=0)
