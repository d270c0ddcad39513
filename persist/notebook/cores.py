"""Cores of the CPU for runs side by side: each core is lent to one run at a time, on this machine, by a file lock that
the system releases whatever happens to its holder."""

import contextlib
import os
import tempfile
import time
from pathlib import Path


@contextlib.contextmanager
def borrowed_cores(n: int):
    """The numbers of n cores that no other run has borrowed; waits for them. None where this system cannot pin, or has
    fewer."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) < n or n < 1:
        yield None
        return
    with contextlib.ExitStack() as locks:
        while True:
            cores = _lock(allowed, n, locks)
            if len(cores) == n:
                break
            locks.close()  # all or none: two runs that each hold a part would wait for ever
            time.sleep(1)
        yield cores


def _lock(allowed, n, locks) -> list[int]:
    import fcntl

    folder = Path(tempfile.gettempdir()) / f"persist-cores-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    cores = []
    for core in allowed:
        file = locks.enter_context((folder / str(core)).open("w"))
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cores.append(core)
        if len(cores) == n:
            break
    return cores
