"""Keeps memory that one forward pass frees for the next one.

Without it the C library gives the pages of large tensors back to the system as soon as they are
freed and faults them in anew, zeroed, for the next tensor: tens of thousands of page faults per
pass, most of all off the main thread, whose arena is made of small pieces.
"""

from __future__ import annotations

import ctypes
import ctypes.util

_LARGEST_KEPT_BYTES = 2**25
"""Of one block; the largest that every glibc takes. Larger ones still go back at once."""
_KEPT_BYTES = 2**28
"""Free memory that is kept at most, at the end of the heap."""

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> bool:
    """Tell this process' C library; to be called before other threads allocate.

    Returns:
        Whether it is one that can be told (glibc): others are left as they are.
    """
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is None:
        return False
    wishes = (
        (_M_ARENA_MAX, 1),  # one heap for all threads: the model's is the only one that is busy
        (_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
    )
    taken = [mallopt(option, value) == 1 for option, value in wishes]
    return all(taken)
