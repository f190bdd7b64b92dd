"""Return freed memory to the system, which allocators keep, and spare garbage collections the imported libraries."""

import ctypes
import gc
from functools import lru_cache

import pyarrow as pa

_M_MMAP_THRESHOLD = -3
"""The number of the option in glibc's `malloc.h`."""
_LARGE_BYTES = 2**20


def release_memory() -> None:
    """Collect garbage, then return free memory of Arrow's and the C library's allocators."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def return_large_blocks() -> None:
    """Have the C library return each block from 1 MiB on to the system when it is freed, once a process.

    By itself it raises that size up to 32 MiB, and then keeps such blocks: 90 MiB more after 400,000 rows of 1 KiB.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGE_BYTES)


@lru_cache(maxsize=1)
def freeze_libraries() -> None:
    """Exclude the objects of imported libraries from garbage collection, once a process.

    A full collection walks through all of them in a quarter of a second, under Python's lock, and frees nothing. Only
    once, because garbage that is frozen stays.
    """
    gc.freeze()
