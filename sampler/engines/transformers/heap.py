"""The C heap beside the bound on keys and values: what is freed must be gone, or the bound is none in fact.

Prefixes come and go beside small things that stay, such as the rows of memo trees: in one heap these settle in the
holes, and nothing large fits into them again (measured: 550 MB held for 259 MB of keys and values). Buffers that grow
leave holes too. So blocks of a few tokens' keys and values get mappings of their own, which go with them, and after a
growth the heap's free pages are given back.
"""

import contextlib
import ctypes
import sys

M_MMAP_THRESHOLD = -3
"""Of glibc's mallopt."""
LARGE = 128 << 10
"""Bytes. It is glibc's own first threshold, but left alone that rises with what is freed, up to 32 MB."""


def map_large_blocks() -> None:
    """Give large blocks mappings of their own, whatever was freed before."""
    _call("mallopt", M_MMAP_THRESHOLD, LARGE)


def trim() -> None:
    """Give the free pages of the heap back; a few milliseconds."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """A function of glibc; other systems' heaps have none of this and need none of it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL("libc.so.6"), name)(*arguments)
