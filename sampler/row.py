"""One row of logits, and what the sampler needs of it.

A row is p(·|prefix) over a *support*: the whole vocabulary, the `k` largest logits, or a nucleus.
From the logits L of the support, in nats and float64:

    log p_v   = L_v − log Σ exp L                  base model, renormalised over the support
    log_z     = ℓ = log Σ_v p_v^α                  normaliser of the proposal q_v = p_v^α / exp ℓ
    entropy   = H = −Σ_v p_v log p_v               at temperature 1
    log_mass  = log of the support's share of the whole vocabulary

so log q = α·log p − ℓ never needs storing. For α ≥ 1, ℓ ≤ 0; rounding may break that by an ulp, and
early rejection relies on it, so ℓ is clamped here, at the row, once for all users.

The token is drawn by inverting the CDF of q with the support sorted by logit, ties by id: small
numerical noise then moves a draw only when the uniform lies at the edge of two tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A next-token law: its head (highest logits first, ties by id) and its statistics.

    `ids`, `logits`: shape [head]. `size` tokens of the head are in the support; where the head is
    `complete` these are all of it, else the support is the whole vocabulary and goes on beyond.
    """

    ids: Ids
    logits: NDArray[Any]
    size: int
    complete: bool
    alpha: float
    log_norm: float
    log_z: float
    entropy: float
    log_mass: float

    @property
    def nbytes(self) -> int:
        """Bytes of the head's arrays."""
        return self.ids.nbytes + self.logits.nbytes

    def compact(self, dtype: type[np.floating[Any]], head: int) -> "Row":
        """A copy to keep: narrow types that hold the same numbers, and of an incomplete head `head` tokens at most.

        `dtype` must hold the engine's logits exactly, so that a draw from the copy is a draw from the row.
        """
        kept = len(self.ids) if self.complete else min(head, len(self.ids))
        return replace(
            self,
            ids=self.ids[:kept].astype(np.int32),
            logits=self.logits[:kept].astype(dtype),
            size=min(self.size, kept),
        )

    def without(self, barred: frozenset[int]) -> "Row":
        """This row with some tokens never drawn: q and ℓ are those of the others, log p and H stay as they are.

        Itself where nothing would be left to draw. The head must be complete.
        """
        assert self.complete, "tokens beyond a head cannot be barred"
        left = np.flatnonzero([token not in barred for token in self.ids[: self.size].tolist()])
        if len(left) in (0, self.size):
            return self
        logits = self.logits[left]
        log_z = log_sum_exp(self.alpha * (logits.astype(np.float64) - self.log_norm))
        log_z = clamp_log_z(log_z, self.alpha)
        return replace(self, ids=self.ids[left], logits=logits, size=len(left), log_z=log_z)

    def log_p(self, index: int) -> float:
        """log p of the head's token `index`, over the support."""
        return float(self.logits[index]) - self.log_norm

    def find(self, u: float) -> int | None:
        """The head index that the uniform u ∈ (0, 1] picks under q, or None if beyond the head."""
        if self.alpha == np.inf:
            return 0
        scaled = self.alpha * (self.logits[: self.size].astype(np.float64) - self.log_norm)
        mass = np.exp(scaled - self.log_z)
        index = int(np.searchsorted(np.cumsum(mass), u, side="left"))
        if index < self.size:
            return index
        if not self.complete:
            return None
        return int(np.flatnonzero(mass)[-1])  # u is above the total by rounding alone


def log_sum_exp(values: Floats) -> float:
    """log Σ exp(values), −inf for none."""
    top = float(values.max(initial=-np.inf))
    if not np.isfinite(top):
        return top
    return top + float(np.log(np.exp(values - top).sum()))


def clamp_log_z(log_z: float, alpha: float) -> float:
    """ℓ with the sign that α ≥ 1 implies; NaN stays NaN."""
    return 0.0 if alpha >= 1.0 and log_z > 0.0 else log_z


def statistics(logits: Floats, alpha: float) -> tuple[float, float, float]:
    """(log Σ exp L, ℓ, H) of a support's finite logits, shape [support]. Greedy (α = ∞) has ℓ = 0."""
    log_norm = log_sum_exp(logits)
    log_p = logits - log_norm
    log_z = 0.0 if alpha == np.inf else clamp_log_z(log_sum_exp(alpha * log_p), alpha)
    entropy = float(-(np.exp(log_p) * log_p).sum())
    return log_norm, log_z, max(entropy, 0.0) if entropy == entropy else entropy


def finite(logits: NDArray[Any]) -> int:
    """How many of the sorted logits are above −inf; all of them beside a NaN, so that it is seen and not dropped."""
    return len(logits) if np.isnan(logits).any() else int(np.count_nonzero(~np.isneginf(logits)))


def row_of_top(ids: Ids, logits: NDArray[Any], size: int, alpha: float, log_total: float) -> Row:
    """The row whose support is the first `size` tokens of a sorted head; `log_total` = log Σ exp L over all."""
    size = min(size, finite(logits))
    log_norm, log_z, entropy = statistics(logits[:size].astype(np.float64), alpha)
    return Row(ids, logits, size, True, alpha, log_norm, log_z, entropy, min(log_norm - log_total, 0.0))


def row_of_head(ids: Ids, logits: NDArray[Any], alpha: float, log_total: float, log_z: float, entropy: float) -> Row:
    """The row of the whole vocabulary, of which only a sorted head is kept."""
    log_z = clamp_log_z(log_z, alpha)
    return Row(ids, logits, finite(logits), False, alpha, log_total, log_z, max(entropy, 0.0), 0.0)


def nucleus_size(logits: NDArray[Any], top_p: float, alpha: float, log_norm: float, log_z: float) -> int | None:
    """How many tokens of the sorted head reach `top_p` of the tempered mass, None if the head does not."""
    if alpha == np.inf:
        return 1
    mass = np.exp(alpha * (logits.astype(np.float64) - log_norm) - log_z)
    index = int(np.searchsorted(np.cumsum(mass), top_p, side="left"))
    return index + 1 if index < len(mass) else None


def sort_logits(logits: NDArray[Any]) -> tuple[Ids, NDArray[Any]]:
    """A whole row of logits sorted by value, ties by id: (ids, logits), shape [vocabulary]."""
    order = np.argsort(-logits, kind="stable").astype(np.int64)
    return order, logits[order]


def draw(row: Row, u: float, whole: Callable[[], Row]) -> tuple[Row, int]:
    """The row and head index that u picks; `whole` fetches the complete row for a u beyond the head."""
    index = row.find(u)
    if index is not None:
        return row, index
    row = whole()
    index = row.find(u)
    assert index is not None, "a complete row covers every uniform"
    return row, index
