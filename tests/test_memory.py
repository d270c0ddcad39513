import contextlib
import ctypes
import platform
import subprocess
import sys
import threading

import pytest

from persist import Cell, training
from persist.memory import kept_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc here, whose malloc this is about")

# In a process of its own: what others have freed before decides how malloc does.
MEASURE = """
import resource
import torch
from persist.memory import kept_memory

def page_faults(mebibytes=64, warm_up=5, times=10):
    for n in range(warm_up + times):
        if n == warm_up:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(mebibytes * 2**18).add_(1)  # takes, fills and frees them
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():  # MiB
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

torch.zeros(1)
before, default = resident(), page_faults()
try:
    with kept_memory():
        kept, within = page_faults(), resident()
        raise RuntimeError
except RuntimeError:
    print(default, kept, within - before, resident() - before, page_faults(512))  # more than was freed before
"""


@glibc
def test_freed_memory_is_kept_within_and_given_back_afterwards_also_after_an_error():
    out = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True).stdout
    default, kept, mebibytes_within, mebibytes_afterwards, afterwards = map(float, out.split())
    # A fault brings 4 KiB, or 2 MiB where the system has transparent huge pages
    assert default >= 10 * 32 and kept < default / 10
    assert mebibytes_within >= 63 and mebibytes_afterwards < 16 and afterwards >= 10 * 256


def test_training_is_within_it(monkeypatch):
    entered = []

    @contextlib.contextmanager
    def kept():
        entered.append("in")
        yield
        entered.append("out")

    monkeypatch.setattr(training, "kept_memory", kept)
    cell = Cell(m=32, dataset="digits", train_size=64, test_size=20, width=0.03, padding="alexnet", epochs=1)
    training.train(cell, device="cpu", on_epoch=lambda entry: entered.append("epoch"))
    assert entered == ["in", "epoch", "out"]


def test_in_another_thread_nothing_happens(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("malloc is left alone"))
    done = []

    def work():
        with kept_memory():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_without_glibc_nothing_happens(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: not found")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with kept_memory():
        pass
    with pytest.raises(RuntimeError, match="stop"), kept_memory():
        raise RuntimeError("stop")
