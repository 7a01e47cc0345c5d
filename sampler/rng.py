"""Keyed draws: every random number is a function of where in the work it is used.

There is no generator and no state. A uniform is a hash of (seed, prompt digest, chain, stage, step,
kind, attempt, position), so a chain's draws do not depend on how many tokens a rejected proposal
used, on its neighbours in a batch, or on the order in which calls finish. That is what makes early
rejection, batching, prefetch and retries give the same tokens as the plain chain.

The prompt belongs in the key: with one seed over many prompts, errors would otherwise correlate and
every interval computed over the prompts would be too narrow. The kind belongs in it too: a chain
whose accept uniform equals a token uniform no longer leaves its target invariant.
"""

import enum
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

EXTEND = -1
"""The step index of a stage's extension, so that it shares no draw with a step."""

_SCALE = 2.0**-53


class Kind(enum.IntEnum):
    """What a uniform decides."""

    CUT = 0
    ACCEPT = 1
    TOKEN = 2
    RESAMPLE = 3
    PICK = 4


@dataclass(frozen=True, slots=True)
class DrawKey:
    """The uniforms of one decision, one for each position."""

    digest: bytes

    def uniform(self, position: int = 0) -> float:
        """A uniform in (0, 1] with 53 random bits; the same position gives the same number."""
        word = hashlib.blake2b(struct.pack("<q", position), key=self.digest, digest_size=8).digest()
        return ((int.from_bytes(word, "little") >> 11) + 1) * _SCALE


@dataclass(frozen=True, slots=True)
class Draws:
    """All draws of one chain on one prompt."""

    seed: int
    prompt_digest: bytes
    chain: int = 0

    def key(self, kind: Kind, stage: int, step: int, attempt: int = 0) -> DrawKey:
        """The key of one decision; `attempt` is the try or particle of methods that have several."""
        text = (
            struct.pack("<q", self.seed)
            + self.prompt_digest
            + struct.pack("<qqqqq", self.chain, stage, step, int(kind), attempt)
        )
        return DrawKey(hashlib.blake2b(text, digest_size=32).digest())


def prompt_digest(prompt_ids: Iterable[int]) -> bytes:
    """A 32-byte digest of a prompt's token ids."""
    data = b"".join(struct.pack("<q", token) for token in prompt_ids)
    return hashlib.blake2b(data, digest_size=32, person=b"prompt").digest()
