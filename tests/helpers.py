"""Records made up for tests, of the right form; a small disk."""

import contextlib
import math
import os
import subprocess

import pytest

from persist import Cell, Record
from persist.record import CLOCKS


def make_record(
    cell: Cell, diverged_at: int | None = None, accuracy=None, seconds: float = 1.0, stopped_at: int | None = None
) -> Record:
    """A record of `cell`; accuracy: a function of the epoch, by default one that rises with the epoch and with K."""
    accuracy = accuracy or (lambda epoch: 1 - 0.9 * math.exp(-0.1 * epoch * cell.K))
    history = []
    for n, counters in enumerate(cell.evaluations()[: diverged_at or stopped_at], start=1):
        lost = n == diverged_at
        history.append(
            {
                **counters,
                "train_seconds": n * cell.K * seconds,
                "cpu_seconds": n * cell.K * seconds,
                "wall_seconds": n * cell.K * seconds + n,
                "train_loss": None if lost else 2 / n,
                "test_loss": None if lost else 2.3 / n + 0.1 * cell.K,
                "test_accuracy": None if lost else accuracy(n),
            }
        )
    environment = {
        "device": "Some GPU",
        "cuda": "13.0",
        "threads": 2,
        "torch": "2.14.1",
        "cpu": "Some CPU",
        "data_sha256": "0" * 64,
    }
    status = "diverged" if diverged_at else "unfinished" if stopped_at else "finished"
    return Record(cell=cell, history=history, environment=environment, status=status)


def numbers(record: Record):
    """A record but for its times and circumstances."""
    history = [{k: v for k, v in entry.items() if k not in CLOCKS} for entry in record.history]
    return record.cell, history, record.status


@contextlib.contextmanager
def small_disk(folder, size, options="rw"):
    """A file system of so many bytes on `folder`; the test is skipped where one must not mount."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "tmpfs", str(folder)]
    if not os.path.exists("/bin/mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
