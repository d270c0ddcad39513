"""Memory that is kept between iterations, on the CPU.

glibc gives the memory of every large tensor back to the system as soon as it is freed, and takes it anew in the next
iteration, page by page and zeroed; with a large minibatch that is a part of an iteration's time that one can measure.
"""

import contextlib
import ctypes
import threading

# Parameters of mallopt (malloc.h).
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4


@contextlib.contextmanager
def kept_memory():
    """Within it freed memory stays with the process; afterwards it is given back, and malloc does again what it does after
    tensors of any size were freed. Changes no result. Not to be nested: where the inner one ends, all is given back.
    Without glibc nothing happens; nor outside the main thread, where malloc works otherwise and nothing would be gained."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, malloc_trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        mallopt(MMAP_MAX, 65_536)  # glibc's default; and where its thresholds end up, which it sets by what was freed
        mallopt(MMAP_THRESHOLD, 32 * 2**20)
        mallopt(TRIM_THRESHOLD, 64 * 2**20)
        malloc_trim(0)
