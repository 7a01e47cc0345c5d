"""The seed of a request that gives none."""

import secrets

SEED_BITS = 53
"""As many as a double holds: a reader whose only number is one, such as JavaScript's, gives the same seed back."""


def drawn_seed() -> int:
    """A seed out of 2^53, by the system's randomness."""
    return secrets.randbits(SEED_BITS)
