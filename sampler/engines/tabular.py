"""The tabular engine: an exact model read from a JSON table, for teaching and for proofs.

File: `{"vocab": ["a", "b", "<eos>"], "eos": [2], "logits": {"": [..], "0": [..], "0 1": [..]}, "default": [..]}`.
Keys of `logits` are the response so far as ids; `null` in a row is −∞; a prefix without a row uses `default`.
Any text prompt is accepted and plays no part in the law. The text of a response is its vocabulary strings
joined, end-of-sequence ids left out.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from sampler.engine import (
    REMOTE_ONLY,
    EngineInfo,
    EngineOptions,
    Request,
    Support,
    check_request,
    drawable,
    segment_end,
)
from sampler.errors import ModelNotFound
from sampler.row import Floats, Row, draw, log_sum_exp, nucleus_size, row_of_top, sort_logits, statistics
from sampler.tokenizer import Message, TokenizerInfo
from sampler.trace import End, Segment, Token

CONTEXT = 1 << 20
YIELD_EVERY = 64
"""Tokens between two looks at the event loop, so that cancelling works."""


class TabularTokenizer:
    """Bytes of a prompt stand for ids; the model ignores them."""

    tokens_are_bytes = True

    def __init__(self, vocab: Sequence[str], eos_ids: frozenset[int]) -> None:
        self._bytes = [b"" if i in eos_ids else text.encode() for i, text in enumerate(vocab)]
        self._vocab = list(vocab)

    @property
    def about(self) -> TokenizerInfo:
        """A table has no control tokens but its ends, and no template to show."""
        ends = {text: i for i, text in enumerate(self._vocab) if not self._bytes[i] and text}
        return TokenizerInfo(eos_token=next(iter(ends), None), longest_token_bytes=1, control_tokens=ends)

    def encode(self, text: str, *, start: bool = True) -> list[int]:
        """One id for each UTF-8 byte: any prompt is accepted."""
        return [byte % len(self._vocab) for byte in text.encode()]

    def encode_chat(self, messages: Sequence[Message], *, open_reply: bool = True) -> list[int]:
        """The conversation written line by line: the prompt plays no part, so any template will do."""
        lines = [f"{message.role}: {message.content}" for message in messages]
        return self.encode("\n".join([*lines, "assistant:"] if open_reply else lines))

    def response_bytes(self, ids: Sequence[int]) -> bytes:
        """The vocabulary strings joined."""
        return b"".join(self._bytes[token] for token in ids)

    def text(self, ids: Sequence[int]) -> str:
        """The vocabulary strings joined, ends included."""
        return "".join(self._vocab[token] for token in ids)

    def token_text(self, token: int) -> str:
        """The vocabulary string."""
        return self._vocab[token]


class TabularEngine:
    """Draws from a table of logits in float64."""

    def __init__(
        self,
        vocab: Sequence[str],
        eos_ids: frozenset[int],
        logits: Mapping[tuple[int, ...], Floats],
        default: Floats,
        model: str = "tabular",
    ) -> None:
        self._logits = dict(logits)
        self._default = default
        self._info = EngineInfo("tabular", model, len(vocab), eos_ids, CONTEXT)
        self._tokenizer = TabularTokenizer(vocab, eos_ids)
        self.free_rows = 0
        """What `room` answers: a table computes one row after another, so drawing ahead gains nothing."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is and promises."""
        return self._info

    @property
    def tokenizer(self) -> TabularTokenizer:
        """The table's tokenizer."""
        return self._tokenizer

    @property
    def alive(self) -> bool:
        """A table does not die."""
        return True

    def row(self, response: tuple[int, ...], alpha: float, support: Support) -> Row:
        """The row after a response."""
        ids, logits = sort_logits(self._logits.get(response, self._default))
        size = len(ids)
        total, log_z, _ = statistics(logits[~np.isneginf(logits)], alpha)
        if support.kind == "top_k":
            size = min(support.top_k, size)
        elif support.kind == "top_p":
            size = nucleus_size(logits, support.top_p, alpha, total, log_z) or size
        return row_of_top(ids, logits, size, alpha, log_sum_exp(logits))

    async def propose(self, request: Request) -> Segment:
        """Draw one segment; see the protocol."""
        check_request(request, self._info)
        response = request.ids[len(request.ids) - request.position :]
        tokens: list[Token] = []
        rows: list[Row] = []
        for i in range(request.max_tokens):
            if i % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            row = self.row(response, request.alpha, request.support)
            used, index = draw(
                drawable(row, request, i), request.key.uniform(request.position + i), lambda row=row: row
            )
            token = Token(int(used.ids[index]), used.log_p(index), used.log_z, used.entropy, used.log_mass)
            tokens.append(token)
            rows.append(row)
            response += (token.id,)
            end = segment_end(token.id, request.eos_ids, request.watch((token,)) if request.watch else None)
            if end:
                return self._segment(tokens, rows, request, end)
        return self._segment(tokens, rows, request, End.LENGTH)

    def _segment(self, tokens: list[Token], rows: list[Row], request: Request, end: End) -> Segment:
        return Segment(tuple(tokens), end, tuple(rows) if request.keep_rows else None, len(request.ids))

    async def score(self, ids: Sequence[int], start: int, head: int = 0) -> tuple[Sequence[Token], Sequence[Row]]:
        """Tokens and rows of ids[start:], taking everything from `start` on as the response."""
        rows = [self.row(tuple(ids[start:end]), 1.0, Support()) for end in range(start, len(ids))]
        tokens: list[Token] = []
        for token, row in zip(ids[start:], rows, strict=True):
            where = np.flatnonzero(row.ids == token)
            tokens.append(Token(token, row.log_p(int(where[0])), row.log_z, row.entropy, row.log_mass))
        return tokens, rows

    def room(self) -> int:
        """No rows to spare, unless a test says so."""
        return self.free_rows

    async def aclose(self) -> None:
        """Nothing to free."""


def load(options: EngineOptions) -> TabularEngine:
    """Load the table named by `options.model`."""
    options.refuse("tabular", "dtype", "device", "max_rows", "kv_cache_bytes", "engine_args", *REMOTE_ONLY)
    if options.model is None:
        raise ModelNotFound("the tabular engine needs --model FILE.json; docs/tabular.md shows one")
    path = Path(options.model)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelNotFound(f"cannot read the table {path}: {error.strerror}") from None
    except ValueError as error:
        raise ModelNotFound(f"{path} is not JSON: {error}") from None
    return from_table(table, options.served_name or path.stem)


def from_table(table: Any, model: str = "tabular") -> TabularEngine:
    """The engine of a table given as parsed JSON; raises `ModelNotFound` saying what is wrong with it."""
    if not isinstance(table, dict):
        raise ModelNotFound("a table is a JSON object with vocab, eos, logits and default")
    table = cast("dict[str, Any]", table)
    if unknown := sorted(set(table) - {"vocab", "eos", "logits", "default"}):
        raise ModelNotFound(f"unknown table field {unknown[0]!r}; a table has vocab, eos, logits and default")
    vocab = table.get("vocab")
    if not isinstance(vocab, list) or not vocab or not all(isinstance(t, str) for t in cast("list[object]", vocab)):
        raise ModelNotFound("vocab must be a non-empty list of strings")
    vocab = cast("list[str]", vocab)
    if any("\ud800" <= char <= "\udfff" for text in vocab for char in text):
        raise ModelNotFound("vocab holds a lone surrogate, which is not text")
    eos = table.get("eos", [])
    if not isinstance(eos, list) or not all(
        type(token) is int and 0 <= token < len(vocab) for token in cast("list[object]", eos)
    ):
        raise ModelNotFound(f"eos must list ids between 0 and {len(vocab) - 1}")
    rows = table.get("logits", {})
    if not isinstance(rows, dict):
        raise ModelNotFound("logits must be an object of rows")
    rows = cast("dict[str, Any]", rows)
    default = _row("default", table.get("default", [0.0] * len(vocab)), len(vocab))
    logits = {_prefix(key, len(vocab)): _row(key, row, len(vocab)) for key, row in rows.items()}
    return TabularEngine(vocab, frozenset(cast("list[int]", eos)), logits, default, model)


def _prefix(key: str, size: int) -> tuple[int, ...]:
    try:
        ids = tuple(int(word) for word in key.split())
    except ValueError:
        raise ModelNotFound(f"logits key {key!r} must be ids separated by spaces") from None
    if not all(0 <= token < size for token in ids):
        raise ModelNotFound(f"logits key {key!r} holds an id outside 0..{size - 1}")
    return ids


def _row(key: str, values: Any, size: int) -> Floats:
    if not isinstance(values, list) or len(cast("list[object]", values)) != size:
        raise ModelNotFound(f"row {key!r} must list {size} logits")
    try:
        row = np.array([-np.inf if v is None else float(v) for v in cast("list[Any]", values)])
    except (TypeError, ValueError, OverflowError):
        raise ModelNotFound(f"row {key!r} holds something that is neither a number nor null") from None
    if not np.isfinite(row).any() or np.isnan(row).any() or np.isposinf(row).any():
        raise ModelNotFound(f"row {key!r} needs at least one finite logit and no NaN or +infinity")
    return row
