"""For every test: one thread, the same seed, and torch's own default type afterwards."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def clean_slate():
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
