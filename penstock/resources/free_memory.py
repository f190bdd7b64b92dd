"""Return freed memory to the system. Allocators keep it, and a memory limit counts it."""

import ctypes
import gc

import pyarrow as pa


def release_memory() -> None:
    """Collect garbage, then return free memory of Arrow's and the C library's allocators."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)
