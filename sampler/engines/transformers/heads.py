"""From a batch of logits to rows: one transfer from the device for the whole batch."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sampler.engine import Request, Support
from sampler.row import Row, draw, finite, nucleus_size, row_of_head, row_of_top
from sampler.trace import Token

HEAD = 256
"""Tokens kept of a row whose support is the whole vocabulary or a nucleus; a draw beyond fetches the row."""


class Heads:
    """The heads of a batch of logits [rows, vocabulary], and what the whole vocabulary adds to them."""

    def __init__(self, logits: Tensor, size: int, alphas: Sequence[float], full: bool) -> None:
        self._logits = logits
        size = min(size, logits.shape[-1])
        ids, values = sorted_head(logits, size)
        self._size = size
        total = torch.logsumexp(logits, -1, keepdim=True)
        columns = [ids.double(), values.double(), total.double()]
        if full:
            alpha = torch.tensor(
                [a if np.isfinite(a) else 1.0 for a in alphas], device=logits.device, dtype=logits.dtype
            )
            log_p = logits - total
            log_z = torch.logsumexp(alpha[:, None] * log_p, -1, keepdim=True)
            p = log_p.exp()
            entropy = -torch.xlogy(p, p).sum(-1, keepdim=True)
            columns += [log_z.double(), entropy.double()]
        self._packed = torch.cat(columns, 1).cpu().numpy()

    def row(self, index: int, support: Support, alpha: float, head: int = 0) -> Row:
        """The row of batch row `index` over a support, with a head of at least `head` tokens."""
        packed, size = self._packed[index], self._size
        ids, logits, total = packed[:size].astype(np.int64), packed[size : 2 * size], float(packed[2 * size])
        if support.kind == "top_k":
            kept = max(support.top_k, head)
            return row_of_top(ids[:kept], logits[:kept], support.top_k, alpha, total)
        log_z = 0.0 if np.isinf(alpha) else float(packed[2 * size + 1])
        entropy = float(packed[2 * size + 2])
        if support.kind == "top_p":
            reached = nucleus_size(logits, support.top_p, alpha, total, log_z)
            if reached is None:
                ids, logits = self._sorted(index)
                reached = nucleus_size(logits, support.top_p, alpha, total, log_z) or len(ids)
            kept = max(reached, head)
            return row_of_top(ids[:kept], logits[:kept], reached, alpha, total)
        return row_of_head(ids, logits, alpha, total, log_z, entropy)

    def draw(self, index: int, request: Request, u: float) -> tuple[Row, Token]:
        """The row of batch row `index` and the token that u picks from it."""
        row = self.row(index, request.support, request.alpha, request.head)

        def whole() -> Row:
            ids, logits = self._sorted(index)
            return Row(ids, logits, finite(logits), True, row.alpha, row.log_norm, row.log_z, row.entropy, 0.0)

        used, at = draw(row, u, whole)
        return row, Token(int(used.ids[at]), used.log_p(at), row.log_z, row.entropy, row.log_mass)

    def _sorted(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        values, ids = torch.sort(self._logits[index], dim=-1, descending=True, stable=True)
        return ids.cpu().numpy(), values.double().cpu().numpy()


def head_size(request: Request) -> int:
    """How long a head this request needs."""
    return max(request.support.top_k if request.support.kind == "top_k" else HEAD, request.head)


def needs_full(support: Support) -> bool:
    """Whether the support's statistics are sums over the whole vocabulary."""
    return support.kind != "top_k"


def sorted_head(logits: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The `size` largest logits of each row, sorted by value and then by id: ids and values [rows, size].

    `topk` leaves the order of ties open, also which of several tokens tied at the last rank it keeps.
    """
    vocabulary = logits.shape[-1]
    values, ids = torch.topk(logits, min(size + 1, vocabulary))
    if size < vocabulary:
        tied = values[:, size] == values[:, size - 1]
        values, ids = values[:, :size], ids[:, :size]
        if bool(tied.any()):
            ids = ids.clone()
            for row in cast("list[int]", cast(Any, torch.nonzero(tied)[:, 0]).tolist()):
                ids[row] = torch.sort(logits[row], dim=-1, descending=True, stable=True).indices[:size]
    ids = ids.sort(-1).values
    values = logits.gather(-1, ids)
    order = torch.sort(values, dim=-1, descending=True, stable=True).indices
    return ids.gather(-1, order), values.gather(-1, order)
