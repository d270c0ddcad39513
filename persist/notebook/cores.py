"""Cores of the CPU for runs side by side: each core is lent to one run at a time, on this machine, by a file lock that
the system releases whatever happens to its holder."""

import contextlib
import itertools
import os
import tempfile
import time
from pathlib import Path


@contextlib.contextmanager
def borrowed_cores(n: int):
    """The numbers of n cores that no other run has borrowed; waits for them, and says so. None where this system cannot
    pin, or has fewer."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not 1 <= n <= len(allowed):
        yield None
        return
    for attempt in itertools.count():
        with contextlib.ExitStack() as locks:  # all or none: two runs that each hold a part would wait for ever
            cores = list(itertools.islice(_lock(allowed, locks), n))
            if len(cores) == n:
                yield cores
                return
        if attempt == 0:
            print(f"waits for {n} of {len(allowed)} cores: other runs on this machine have them", flush=True)
        time.sleep(1)


def _lock(allowed, locks):
    """The cores that are free, each locked as it is taken."""
    import fcntl

    folder = Path(tempfile.gettempdir()) / f"persist-cores-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for core in allowed:
        file = locks.enter_context((folder / str(core)).open("w"))
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield core
