"""Log-probabilities as OpenAI's two routes write them.

All are the base model's over its whole vocabulary, at temperature 1, whatever was sampled with. Impossible tokens have
log p = −∞, which JSON cannot write: they are null.
"""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sampler.answer import Answer
from sampler.row import Row
from sampler.tokenizer import Tokenizer
from sampler.trace import End, Token
from service.render import number


class Scored(NamedTuple):
    """The tokens of a prompt after its first, and their rows."""

    tokens: Sequence[Token]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Shown:
    """A token with its log p and its likeliest alternatives, None where nothing precedes it."""

    id: int
    offset: int
    log_p: float | None
    top: list[tuple[int, float | None]] | None


def alternatives_of(row: Row, count: int) -> list[tuple[int, float | None]]:
    """The `count` likeliest tokens of a row."""
    shown = range(min(count, len(row.ids)))
    return [(int(row.ids[i]), number(row.log_p(i) + row.log_mass)) for i in shown]


def prompt_shown(ids: Sequence[int], scored: Scored, tokenizer: Tokenizer, text: str, count: int) -> list[Shown]:
    """The tokens of a prompt whose text is `text`."""
    values: list[float | None] = [None, *(number(token.log_p + token.log_mass) for token in scored.tokens)]
    tops = [None, *(alternatives_of(row, count) for row in scored.rows)]
    offsets = [min(at, len(text)) for at in starts(ids, tokenizer)]
    return [Shown(*each) for each in zip(ids, offsets, values, tops, strict=True)]


def answer_shown(answer: Answer, tokenizer: Tokenizer, text: str, count: int, begin: int = 0) -> list[Shown]:
    """The tokens of an answer, the one that ended it included; `begin` is where its text stands in the reply.

    Of an answer that a stop string ended, only those whose text begins within the trimmed text.
    """
    trace = answer.trace
    shown: list[Shown] = []
    for i, at in enumerate(starts(trace.ids, tokenizer)):
        if trace.end is End.STOP and at >= len(text):
            break
        top = alternatives_of(trace.rows[i], count) if trace.rows is not None else []
        log_p = number(float(trace.log_p[i]) + float(trace.log_mass[i]))
        shown.append(Shown(trace.ids[i], begin + at, log_p, top))
    return shown


def starts(ids: Sequence[int], tokenizer: Tokenizer) -> Iterator[int]:
    """The characters before each token's own text."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    at = 0
    for token in ids:
        yield at
        at += len(decoder.decode(tokenizer.response_bytes([token])))


def completion_logprobs(shown: Sequence[Shown], tokenizer: Tokenizer, count: int) -> dict[str, Any]:
    """`logprobs` of a completion; without alternatives `top_logprobs` is null."""

    def named(top: list[tuple[int, float | None]] | None) -> dict[str, float | None] | None:
        return None if top is None else {tokenizer.token_text(token): value for token, value in top}

    return {
        "tokens": [tokenizer.token_text(each.id) for each in shown],
        "token_logprobs": [each.log_p for each in shown],
        "top_logprobs": [named(each.top) for each in shown] if count else None,
        "text_offset": [each.offset for each in shown],
    }


def chat_logprobs(shown: Sequence[Shown], tokenizer: Tokenizer) -> dict[str, Any]:
    """`logprobs` of a chat choice."""

    def entry(token: int, log_p: float | None) -> dict[str, Any]:
        written = tokenizer.response_bytes([token])  # a control token has none
        return {"token": tokenizer.token_text(token), "logprob": log_p, "bytes": list(written) or None}

    content = [
        {**entry(each.id, each.log_p), "top_logprobs": [entry(*one) for one in each.top or ()]} for each in shown
    ]
    return {"content": content, "refusal": None}
