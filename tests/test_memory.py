import ctypes
import platform
import resource

import pytest
import torch

from persist.memory import kept_memory


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc here, whose malloc this is about")


def page_faults(mebibytes, times=5):
    """Of taking, filling and freeing memory again and again, once it was taken before."""
    for n in range(1 + times):
        if n == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(mebibytes * 2**18).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_freed_memory_is_kept_within_and_given_back_afterwards():
    default = page_faults(64)
    with kept_memory():
        kept = page_faults(64)
    again = page_faults(64)
    assert kept * 10 < default and kept * 10 < again


def test_without_glibc_nothing_happens(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: not found")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with kept_memory():
        pass
    with pytest.raises(RuntimeError, match="stop"), kept_memory():
        raise RuntimeError("stop")


@glibc
def test_an_error_within_reaches_the_caller_and_memory_is_given_back():
    with pytest.raises(RuntimeError, match="stop"), kept_memory():
        raise RuntimeError("stop")
    before = page_faults(64)
    with kept_memory():
        assert page_faults(64) * 10 < before
