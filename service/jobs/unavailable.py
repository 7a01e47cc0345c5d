"""The job store cannot be used now: what callers hear, and what the worker waits out."""

import errno


class StoreUnavailable(Exception):
    """The job store cannot be reached or written now. It may come back by itself."""


class StoreFull(StoreUnavailable):
    """There is no space left for it."""


def unavailable(error: OSError) -> StoreUnavailable:
    """What an operating system's error says of the data folder, without its path."""
    kind = StoreFull if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} else StoreUnavailable
    return kind(f"the data folder cannot be used now ({(error.strerror or type(error).__name__).lower()})")
