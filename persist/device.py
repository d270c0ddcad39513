"""Where a cell trains: the device, the cores of the CPU, the arithmetic, the clocks."""

import contextlib
import os
import time
from collections.abc import Iterator

import torch


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """The torch device; None: CUDA where there is one, else the CPU. Raises ValueError for one that is not there."""
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        device = "cuda" if cuda else "cpu"
    allowed = ["cpu", *(["cuda"] if cuda else []), *(f"cuda:{i}" for i in range(cuda))]
    if str(device) not in allowed:
        raise ValueError(f"device must be one of {', '.join(allowed)}, or None to choose, not {device!r}")
    return torch.device(device)


def place(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The model on the device; on the CPU its convolutions have chosen their memory order already."""
    if device.type == "cpu":
        return model
    return model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def clocks(device: torch.device) -> tuple[float, float]:
    """Seconds by the clock, once the device has done all that it was given, and of this thread's CPU time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.thread_time()


@contextlib.contextmanager
def pinned(cores: list[int] | None) -> Iterator[None]:
    """One thread, on the first of the cores; afterwards as before. None: nothing changes."""
    if cores is None:
        yield
        return
    threads, allowed = torch.get_num_threads(), os.sched_getaffinity(0)
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


@contextlib.contextmanager
def strict_arithmetic() -> Iterator[None]:
    """Deterministic kernels and strict float32 (no TF32); the caller's settings come back afterwards."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [backend.fp32_precision for backend in backends]
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        torch.use_deterministic_algorithms(True)
        # a safeguard against reading fresh memory, which costs a fifth of a step on the CPU; nothing here reads any
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False  # it may choose another kernel in another run
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark
