"""Memory that a CPU does not have to clear again and again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST = 64 * 2**20  # bytes: a map of 640x360 at 40 channels has 37 MB, one of a large tile 168 MB


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next tensors.

    The C library gives large blocks back to the system at once, and takes them again, cleared, a moment later: up to a
    fifth of a network's time on a CPU (docs/speed.md). Blocks beyond 64 MiB still go back, so that large pictures take
    no more memory than before. Where the C library is another than glibc, nothing happens.

    Returns:
        bool: whether the C library took the settings.
    """
    if sys.platform == 'win32':  # there the program itself is no library
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_MMAP_THRESHOLD, _LARGEST))
