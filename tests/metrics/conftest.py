import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """float32 ``[1797, 1, 8, 8]``."""
    return torch.tensor(load_digits().images).float().unsqueeze(1) / 16


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """float32 ``[3, 427, 640]``."""
    picture = torch.tensor(load_sample_images().images[0])
    return picture.permute(2, 0, 1).float() / 255
