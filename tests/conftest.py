"""For every test: one thread, the same seed, torch's own default type afterwards; `warm`."""

import pytest
import torch

from tests.warm import warm_server

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def clean_slate():
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """Return the server of processes that start at once; all tests of a session share it."""
    with warm_server(tmp_path_factory.mktemp("warm")) as server:
        yield server
