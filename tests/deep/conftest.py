import pytest
import torch


@pytest.fixture(autouse=True)
def same_draws():
    """Networks that a test builds without a seed of its own have the same weights each time, in whatever order."""
    torch.manual_seed(0)
