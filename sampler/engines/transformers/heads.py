"""From a batch of logits to rows: one transfer from the device for the whole batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sampler.engine import Request, Support, drawable
from sampler.row import Row, draw, finite, nucleus_size, row_of_head, row_of_top
from sampler.trace import Token

HEAD = 256
"""Tokens kept of a row whose support is the whole vocabulary or a nucleus; a draw beyond fetches the row."""


SPARE = 16
"""Tokens fetched beyond a head, to see the ties at its end. bf16 logits are coarse and tie often."""


class Heads:
    """The heads of a batch of logits [rows, vocabulary], and what the whole vocabulary adds to them."""

    def __init__(self, logits: Tensor, size: int, alphas: Sequence[float], full: bool) -> None:
        self._logits = logits
        self._size = size = min(size, logits.shape[-1])
        ids, values, open_tie = sorted_head(logits, size)
        total = torch.logsumexp(logits, -1, keepdim=True)
        columns = [ids.double(), values.double(), total.double(), open_tie[:, None].double()]
        if full:
            finite_alphas = [alpha if np.isfinite(alpha) else 1.0 for alpha in alphas]
            alpha = torch.tensor(finite_alphas, device=logits.device, dtype=logits.dtype)
            log_p = logits - total
            log_z = torch.logsumexp(alpha[:, None] * log_p, -1, keepdim=True)
            p = log_p.exp()
            entropy = -torch.xlogy(p, p).sum(-1, keepdim=True)
            columns += [log_z.double(), entropy.double()]
        self._packed = torch.cat(columns, 1).cpu().numpy()
        for index in np.flatnonzero(self._packed[:, 2 * size + 1]):
            whole_ids, whole_logits = self._sorted(int(index))
            self._packed[index, :size], self._packed[index, size : 2 * size] = whole_ids[:size], whole_logits[:size]

    def row(self, index: int, support: Support, alpha: float, head: int = 0) -> Row:
        """The row of batch row `index` over a support, with a head of at least `head` tokens."""
        packed, size = self._packed[index], self._size
        ids, logits, total = packed[:size].astype(np.int64), packed[size : 2 * size], float(packed[2 * size])
        if support.kind == "top_k":
            kept = max(support.top_k, head)
            return row_of_top(ids[:kept], logits[:kept], support.top_k, alpha, total)
        log_z = 0.0 if np.isinf(alpha) else float(packed[2 * size + 2])
        entropy = float(packed[2 * size + 3])
        if support.kind == "top_p":
            reached = nucleus_size(logits, support.top_p, alpha, total, log_z)
            if reached is None:
                ids, logits = self._sorted(index)
                reached = nucleus_size(logits, support.top_p, alpha, total, log_z) or len(ids)
            kept = max(reached, head)
            return row_of_top(ids[:kept], logits[:kept], reached, alpha, total)
        return row_of_head(ids, logits, alpha, total, log_z, entropy)

    def draw(self, index: int, request: Request, u: float, drawn: int) -> tuple[Row, Token]:
        """The row of batch row `index` and the token that u picks from it, the segment's number `drawn`."""
        row = self.row(index, request.support, request.alpha, request.head)

        def whole() -> Row:
            ids, logits = self._sorted(index)
            return Row(ids, logits, finite(logits), True, row.alpha, row.log_norm, row.log_z, row.entropy, 0.0)

        source = whole() if request.bars_end and drawn == 0 and not row.complete else row
        used, at = draw(drawable(source, request, drawn), u, whole)
        return row, Token(int(used.ids[at]), used.log_p(at), used.log_z, row.entropy, row.log_mass)

    def _sorted(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        values, ids = torch.sort(self._logits[index], dim=-1, descending=True, stable=True)
        return ids.cpu().numpy(), values.double().cpu().numpy()


def head_size(request: Request) -> int:
    """How long a head this request needs."""
    return max(request.support.top_k if request.support.kind == "top_k" else HEAD, request.head)


def needs_full(support: Support) -> bool:
    """Whether the support's statistics are sums over the whole vocabulary."""
    return support.kind != "top_k"


def sorted_head(logits: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `size` largest logits of each row by value, then by id: ids and values [rows, size], open ties [rows].

    `topk` leaves open which of several tokens tied at the last rank it returns. So a few more are fetched: unless the
    tie goes on beyond them too (an open tie, for the caller to sort the whole row), all of it is there to be ordered.
    """
    vocabulary = logits.shape[-1]
    values, ids = torch.topk(logits, min(size + SPARE, vocabulary))
    more = values.shape[1] < vocabulary
    open_tie = (values[:, -1] == values[:, size - 1]) & more
    ids = ids.sort(-1).values
    values = logits.gather(-1, ids)
    order = torch.sort(values, dim=-1, descending=True, stable=True).indices[:, :size]
    return ids.gather(-1, order), values.gather(-1, order), open_tie
