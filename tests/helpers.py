"""Records made up for tests, of the right form; a small disk."""

import contextlib
import math
import os
import subprocess

import pytest

from persist import Cell, Record
from persist.record import TIMES


def make_record(cell: Cell, diverged_at: int | None = None, accuracy=None, load: float = 1.0, seconds: float = 1.0) -> Record:
    """A record of `cell`; accuracy: a function of the epoch, by default one that rises with the epoch and with K."""
    accuracy = accuracy or (lambda epoch: 1 - 0.9 * math.exp(-0.1 * epoch * cell.K))
    history = []
    for epoch in range(1, (diverged_at or cell.epochs) + 1):
        lost = epoch == diverged_at
        history.append(
            {
                "epoch": epoch,
                "iterations": epoch * cell.K * cell.minibatches,
                "samples": epoch * cell.examples * (cell.K if cell.reuse == "spaced" else 1),
                "gradients": epoch * cell.K * cell.examples,
                "train_seconds": epoch * cell.K * seconds,
                "wall_seconds": epoch * cell.K * seconds + epoch,
                "train_loss": None if lost else 2 / epoch,
                "test_loss": None if lost else 2.3 / epoch + 0.1 * cell.K,
                "test_accuracy": None if lost else accuracy(epoch),
                "load": load,
            }
        )
    environment = {"device": "Some GPU", "cuda": "13.0", "threads": 2, "torch": "2.14.1", "cpu": "Some CPU", "data_sha256": "0" * 64}
    return Record(cell=cell, history=history, environment=environment, status="diverged" if diverged_at else "finished")


def numbers(record: Record):
    """A record but for its times and circumstances."""
    history = [{k: v for k, v in entry.items() if k not in TIMES} for entry in record.history]
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
