"""Keys and values of running rows, one buffer a plane, and the attention that reads them.

Rows are compact: row b of the buffer is row b of the batch, so attention reads a view and nothing is gathered or
concatenated as rows grow. Each row is written from position 0 on (right-padded), so rows of any length share a
forward pass under a mask, and a row is joined, cropped or dropped without touching the others.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from sampler.engines.transformers.heap import trim

ATTENTION = "powercut"
GROWTH = 1.25
"""Factor by which rows and capacity grow at least, so that copies stay rare and little is left unused."""


class RowCache(Cache):
    """Two planes a layer (keys, values), each [rows, kv heads, capacity, head size].

    Planes grow one at a time, so that growing needs the memory of one more plane and not of a second buffer.
    """

    def __init__(self, layers: int, heads: int, head_size: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(layers=[])
        self._shape = (layers, heads, head_size, dtype, device)
        self._planes = [torch.empty((0, heads, 0, head_size), dtype=dtype, device=device) for _ in range(2 * layers)]
        self._rows = slice(0, 0)
        self._positions = torch.empty(0, dtype=torch.long)
        self._index = torch.empty(0, dtype=torch.long)
        self._length = 0

    def like(self) -> "RowCache":
        """An empty cache for the same model."""
        return RowCache(*self._shape)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values."""
        layers, heads, head_size, dtype, _ = self._shape
        return 2 * layers * heads * head_size * dtype.itemsize

    @property
    def buffer_bytes(self) -> int:
        """Bytes that the buffer takes now."""
        rows, _, capacity, _ = self._planes[0].shape
        return rows * capacity * self.token_bytes

    def tight_bytes(self, rows: int, length: int) -> int:
        """Bytes of the smallest buffer for rows of `length` tokens."""
        return rows * round_up(length) * self.token_bytes

    def planned_bytes(self, rows: int, length: int, max_bytes: int | None = None) -> int:
        """Bytes of the buffer after `reserve` with the same arguments."""
        new_rows, new_capacity = self._planned(rows, length, max_bytes)
        return new_rows * new_capacity * self.token_bytes

    def reserve(self, rows: int, length: int, max_bytes: int | None = None) -> None:
        """Make room for rows of `length` tokens, generously unless that would take more than `max_bytes`."""
        had_rows, _, capacity, _ = self._planes[0].shape
        new_rows, new_capacity = self._planned(rows, length, max_bytes)
        if (new_rows, new_capacity) == (had_rows, capacity):
            return
        for at in range(len(self._planes)):
            self._planes[at] = _grown(self._planes[at], new_rows, new_capacity)
        trim()

    def _planned(self, rows: int, length: int, max_bytes: int | None) -> tuple[int, int]:
        had_rows, _, capacity, _ = self._planes[0].shape
        if rows <= had_rows and length <= capacity:
            return had_rows, capacity
        new_rows = had_rows if rows <= had_rows else max(rows, int(had_rows * GROWTH))
        new_capacity = capacity if length <= capacity else max(round_up(length), round_up(int(capacity * GROWTH)))
        if max_bytes is not None and new_rows * new_capacity * self.token_bytes > max_bytes:
            new_rows, new_capacity = rows, round_up(length)
        return new_rows, new_capacity

    def clear(self) -> None:
        """Give the memory back."""
        self._planes = [plane[:0, :, :0].clone() for plane in self._planes]
        trim()

    def load(self, row: int, pieces: list[Tensor]) -> int:
        """Write stored prefix pieces, each [planes, heads, tokens, size], at the start of a row; their length."""
        length = sum(piece.shape[2] for piece in pieces)
        for at, plane in enumerate(self._planes if pieces else ()):  # plane by plane: no second copy of all of it
            plane[row, :, :length] = pieces[0][at] if len(pieces) == 1 else torch.cat([one[at] for one in pieces], 1)
        return length

    def store(self, row: int, start: int, end: int) -> Tensor:
        """A copy of a row's positions start..end: [planes, heads, tokens, size]."""
        return torch.stack([plane[row, :, start:end] for plane in self._planes])

    def move(self, source: int, target: int, length: int) -> None:
        """Move a row into a freed one."""
        for plane in self._planes:
            plane[target, :, :length] = plane[source, :, :length]

    def begin(self, rows: slice, positions: Tensor, length: int) -> None:
        """Say where the next forward pass writes: positions [rows, new tokens], and how far it reads."""
        self._rows, self._positions, self._length = rows, positions, length
        self._index = torch.arange(rows.stop - rows.start, device=positions.device)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values; return views of everything the pass may attend to."""
        return (
            self._write(self._planes[2 * layer_idx][self._rows], key_states),
            self._write(self._planes[2 * layer_idx + 1][self._rows], value_states),
        )

    def _write(self, plane: Tensor, new: Tensor) -> Tensor:
        if self._positions.shape[1] == 1:
            plane[self._index, :, self._positions[:, 0]] = new[:, :, 0]
        else:  # a prefill is one row of consecutive positions that end where the pass reads to
            plane[:, :, self._length - new.shape[2] : self._length] = new
        return plane[:, :, : self._length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens in the longest row of the pass."""
        return self._length


def _grown(plane: Tensor, rows: int, capacity: int) -> Tensor:
    """A plane of another size with the same content, as far as it fits."""
    had_rows, heads, had, size = plane.shape
    grown = plane.new_zeros((rows, heads, capacity, size))  # masked columns must not hold NaN
    kept_rows, kept = min(had_rows, rows), min(had, capacity)
    grown[:kept_rows, :, :kept] = plane[:kept_rows, :, :kept]
    return grown


def round_up(length: int) -> int:
    """Capacity in steps of 64 tokens."""
    return -(-length // 64) * 64


def causal_mask(positions: Tensor, length: int) -> Tensor:
    """Which of `length` columns each new token may see: bool [rows, 1, new tokens, length]."""
    columns = torch.arange(length, device=positions.device)
    return (columns[None, None, :] <= positions[:, :, None])[:, None]


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention over the buffer's views, without expanding grouped key heads.

    `attention_mask` is `causal_mask`'s; a sliding window is cut out of it here, because the buffer keeps all positions.
    """
    for name in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise NotImplementedError(f"attention with {name} is not supported")
    if attention_mask is not None and sliding_window is not None:
        position = attention_mask.sum(-1, keepdim=True) - 1
        columns = torch.arange(attention_mask.shape[-1], device=attention_mask.device)
        attention_mask = attention_mask & (columns > position - sliding_window)
    rows, heads, tokens, size = query.shape
    groups = heads // key.shape[1]
    if tokens == 1 and groups > 1:
        # The query heads of one key head become its queries: the same sums, and no copy of the keys.
        query = query.reshape(rows, key.shape[1], groups, size)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
        out = out.reshape(rows, heads, 1, -1)
    else:
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=groups > 1
        )
    return out.transpose(1, 2).contiguous(), None


cast(Any, AttentionInterface).register(ATTENTION, attend)
