"""What vLLM's numbers mean: its raw log p of the k likeliest tokens make a row over that support.

vLLM gives log p over the whole vocabulary, so the sum of the k values is the support's mass, and renormalising them
gives log p, ℓ and H over the support, as from logits.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sampler.row import Row, log_sum_exp, row_of_top
from sampler.trace import Token


class Head(NamedTuple):
    """A position: the token that vLLM drew and its log p; then the likeliest ids and theirs, by value, then by id."""

    drawn: int
    drawn_log_p: float
    ids: NDArray[np.int64]
    values: NDArray[np.float64]


def heads(flat: Any, size: int) -> Iterator[Head]:
    """The positions of a `FlatLogprobs` of which `size` values were asked for. Empty positions are left out.

    Each lists the drawn (or given) token first and then the likeliest, the drawn one again among them. Where vLLM
    merged two outputs this second mention is lost, and only there are there as many values as were asked for.
    """
    for start, end in zip(flat.start_indices, flat.end_indices, strict=True):
        if start == end:
            continue
        skip = 1 if end - start > size else 0
        ids = np.array(flat.token_ids[start + skip : end], dtype=np.int64)
        values = np.array(flat.logprobs[start + skip : end], dtype=np.float64)
        order = np.lexsort((ids, -values))
        yield Head(flat.token_ids[start], flat.logprobs[start], ids[order], values[order])


def support_row(head: Head, size: int, kept: int, alpha: float) -> Row:
    """The row over the `size` likeliest tokens, with a head of `kept`."""
    return row_of_top(head.ids[:kept], head.values[:kept], size, alpha, 0.0)


def support_token(row: Row, token: int) -> Token | None:
    """The token as drawn from the row, None if it is not in its support."""
    where = np.flatnonzero(row.ids[: row.size] == token)
    return token_at(row, int(where[0])) if where.size else None


def token_at(row: Row, index: int) -> Token:
    """The token at a place of the row's support."""
    return Token(int(row.ids[index]), row.log_p(index), row.log_z, row.entropy, row.log_mass)


def whole_row(head: Head, kept: int, alpha: float) -> tuple[Row, Token]:
    """The row over the whole vocabulary, as far as the returned values know it, and the drawn token.

    log p is exact. ℓ is not known (0 is put), and H is the entropy with all other tokens counted as one: at most the
    true one. Nothing in plain sampling or scoring uses either.
    """
    ids, values = head.ids[:kept], head.values[:kept]
    mass = min(float(np.exp(log_sum_exp(values))), 1.0)
    entropy = float(-(np.exp(values) * values).sum())
    if mass < 1.0:
        entropy -= (1.0 - mass) * float(np.log1p(-mass))
    row = Row(ids, values, len(ids), False, alpha, 0.0, 0.0, max(entropy, 0.0), 0.0)
    return row, Token(head.drawn, head.drawn_log_p, 0.0, row.entropy, 0.0)
