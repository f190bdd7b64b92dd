"""Give freed memory back to the system: allocators keep it, and a limit counts what is kept."""

import ctypes
import gc

import pyarrow as pa


def release_memory() -> None:
    """Collect what is unreachable, and have Arrow's and the C library's allocators return what is free."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
