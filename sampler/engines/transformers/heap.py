"""The C heap beside the bound on keys and values: what is freed must be gone, or the bound is none in fact.

Buffers that grow leave blocks behind which nothing else fits into: 600 MB of them after 20 rows of 1,800 tokens. So
large blocks get mappings of their own, which go with them, and after a growth the heap's free pages are given back.
"""

import contextlib
import ctypes
import sys

M_MMAP_THRESHOLD = -3
"""Of glibc's mallopt."""
LARGE = 8 << 20
"""glibc's own threshold rises with what is freed."""


def map_large_blocks() -> None:
    """Give blocks of 8 MB and more mappings of their own, whatever was freed before."""
    _call("mallopt", M_MMAP_THRESHOLD, LARGE)


def trim() -> None:
    """Give the free pages of the heap back; a few milliseconds."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """A function of glibc; other systems' heaps have none of this and need none of it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL("libc.so.6"), name)(*arguments)
