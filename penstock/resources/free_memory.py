"""Return freed memory to the system, which allocators keep, and spare garbage collections the imported libraries."""

import ctypes
import gc
from functools import lru_cache

import pyarrow as pa


def release_memory() -> None:
    """Collect garbage, then return free memory of Arrow's and the C library's allocators."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def freeze_libraries() -> None:
    """Exclude the objects of imported libraries from garbage collection, once a process.

    A full collection walks through all of them in a quarter of a second, under Python's lock, and frees nothing. Only
    once, because garbage that is frozen stays.
    """
    gc.freeze()
