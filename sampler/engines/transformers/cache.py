"""Keys and values of the running rows, in one buffer that every layer shares.

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

ATTENTION = "powercut"


class RunningCache(Cache):
    """Buffer of shape [2 × layers, rows, kv heads, capacity, head size]; even planes are keys, odd ones values."""

    def __init__(self, layers: int, heads: int, head_size: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(layers=[])
        self.planes = 2 * layers
        self._buffer = torch.empty((self.planes, 0, heads, 0, head_size), dtype=dtype, device=device)
        self._rows = slice(0, 0)
        self._positions = torch.empty(0, dtype=torch.long)
        self._length = 0

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values."""
        return self.planes * self._buffer.shape[2] * self._buffer.shape[4] * self._buffer.element_size()

    @property
    def buffer_bytes(self) -> int:
        """Bytes that the buffer takes now."""
        return self._buffer.numel() * self._buffer.element_size()

    def reserve(self, rows: int, length: int) -> None:
        """Make room for rows of `length` tokens, growing by doubling so that copies stay rare."""
        planes, had_rows, heads, capacity, size = self._buffer.shape
        if rows <= had_rows and length <= capacity:
            return
        new_rows = max(had_rows, 1)
        while new_rows < rows:
            new_rows *= 2
        new_capacity = max(capacity, 64)
        while new_capacity < length:
            new_capacity *= 2
        buffer = self._buffer.new_zeros((planes, new_rows, heads, new_capacity, size))
        buffer[:, :had_rows, :, :capacity] = self._buffer
        self._buffer = buffer

    def clear(self) -> None:
        """Give the memory back."""
        self._buffer = self._buffer[:, :0, :, :0].clone()

    def load(self, row: int, pieces: list[Tensor]) -> None:
        """Write stored prefix pieces, each [planes, heads, tokens, size], at the start of a row."""
        at = 0
        for piece in pieces:
            self._buffer[:, row, :, at : at + piece.shape[2]] = piece
            at += piece.shape[2]

    def store(self, row: int, start: int, end: int) -> Tensor:
        """A copy of a row's positions start..end: [planes, heads, tokens, size]."""
        return self._buffer[:, row, :, start:end].clone()

    def move(self, source: int, target: int, length: int) -> None:
        """Move a row into a freed one."""
        self._buffer[:, target, :, :length] = self._buffer[:, source, :, :length]

    def begin(self, rows: slice, positions: Tensor, length: int) -> None:
        """Say where the next forward pass writes: positions [rows, new tokens], and how far it reads."""
        self._rows, self._positions, self._length = rows, positions, length

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values; return views of everything the pass may attend to."""
        keys = self._buffer[2 * layer_idx, self._rows]
        values = self._buffer[2 * layer_idx + 1, self._rows]
        if self._positions.shape[1] == 1:
            row = torch.arange(keys.shape[0], device=keys.device)
            keys[row, :, self._positions[:, 0]] = key_states[:, :, 0]
            values[row, :, self._positions[:, 0]] = value_states[:, :, 0]
        else:  # a prefill is one row of consecutive positions that end where the pass reads to
            start = self._length - self._positions.shape[1]
            keys[:, :, start : self._length] = key_states
            values[:, :, start : self._length] = value_states
        return keys[:, :, : self._length], values[:, :, : self._length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens in the longest row of the pass."""
        return self._length


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
