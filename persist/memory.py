"""Memory that is kept between iterations, on the CPU.

glibc gives the memory of every large tensor back to the system as soon as it is freed, and takes it anew in the next
iteration, page by page and zeroed: at m = 512 some hundred thousand page faults and 7 % of the time of every iteration.
"""

import contextlib
import ctypes

# Parameters of mallopt (malloc.h).
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4


@contextlib.contextmanager
def kept_memory():
    """Within it freed memory stays with the process; afterwards it is given back, and malloc does again what it does after
    tensors of any size were freed. Changes no result. Without glibc nothing happens."""
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
