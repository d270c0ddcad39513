import os

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = (
    "1"  # read when transformers is imported; without a network it would wait for one at exit
)


@pytest.fixture
def two_processes(monkeypatch):
    """torch.distributed says that this is one of two processes that train together."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
