"""A trace: one position of a chain, with the statistics recorded when its tokens were drawn.

Row t is the next-token law that token t was drawn from. Tokens count the one that ended the trace
(an end-of-sequence id, or the token that completed a stop string). Statistics are kept as
generated and never scored again: re-scoring would mix two roundings into one ratio.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sampler.row import Floats, Row


class End(enum.StrEnum):
    """How a segment of tokens ended."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class Token(NamedTuple):
    """A drawn token and the scalars of its row, in nats over the support."""

    id: int
    log_p: float
    log_z: float
    entropy: float
    log_mass: float


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """What an engine drew: tokens in order, their rows if asked for, and why it ended."""

    tokens: tuple[Token, ...]
    end: End
    rows: tuple[Row, ...] | None = None
    prefix_reused: int = 0
    """How many of the request's ids the engine did not have to compute again."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The response so far. Arrays have shape [tokens]; `log_*` and `entropy` are in nats.

    `log_weight` and `log_norm` are the cut law's: log w_t and log Z_t = log Σ_{i≤t} w_i.
    `end` is EOS or STOP for a finished trace and LENGTH for an unfinished one.
    """

    ids: tuple[int, ...]
    log_p: Floats
    log_z: Floats
    entropy: Floats
    log_mass: Floats
    log_weight: Floats
    log_norm: Floats
    end: End = End.LENGTH
    rows: tuple[Row, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def finished(self) -> bool:
        """Whether the trace reached an end, so that no token may follow."""
        return self.end is not End.LENGTH

    @property
    def total_log_norm(self) -> float:
        """log Z of the whole trace, −inf where no position can be cut."""
        return float(self.log_norm[-1]) if len(self) else -np.inf

    def spliced(
        self,
        cut: int,
        tokens: Sequence[Token],
        log_weight: Sequence[float],
        log_norm: Sequence[float],
        end: End,
        rows: tuple[Row, ...] | None = None,
    ) -> "Trace":
        """This trace up to `cut`, followed by `tokens` with their cut-law values."""

        def join(kept: Floats, new: Sequence[float]) -> Floats:
            return np.concatenate([kept[:cut], np.asarray(new, dtype=np.float64)])

        columns = list(zip(*tokens, strict=True)) if tokens else [()] * 5
        return Trace(
            ids=self.ids[:cut] + tuple(columns[0]),
            log_p=join(self.log_p, columns[1]),
            log_z=join(self.log_z, columns[2]),
            entropy=join(self.entropy, columns[3]),
            log_mass=join(self.log_mass, columns[4]),
            log_weight=join(self.log_weight, log_weight),
            log_norm=join(self.log_norm, log_norm),
            end=end,
            rows=None if rows is None or self.rows is None else self.rows[:cut] + rows,
        )


def empty_trace(*, rows: bool = False) -> Trace:
    """The trace before any token; `rows` says whether its successors keep support rows."""
    none = np.empty(0, dtype=np.float64)
    return Trace((), none, none, none, none, none, none, rows=() if rows else None)
