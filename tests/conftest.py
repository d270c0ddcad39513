import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root folder."""
    return PROJECT


@pytest.fixture(scope="session")
def cifar10_root() -> Path:
    """The folder that holds the real CIFAR-10; the test is skipped where there is none."""
    root = Path(os.environ.get("PERSIST_DATA") or PROJECT / "data")
    root = root if root.is_absolute() else PROJECT / root
    if not (root / "cifar-10-batches-py").is_dir():
        pytest.skip(f"the real CIFAR-10 is not in {root} (PERSIST_DATA names another folder)")
    return root


FIRST = ("test_smoke_grid.py", "test_engine_faults.py", "test_engine.py")  # each takes a minute or more
# a busy machine is slow, which is no failure
settings.register_profile("persist", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("persist")


def pytest_collection_modifyitems(items):
    """The longest first, so that the processes of `make test-slow` end at about the same time."""
    items.sort(key=lambda item: item.path.name not in FIRST)
