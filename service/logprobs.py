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

CUT = "\N{REPLACEMENT CHARACTER}".encode()
"""How a decoder writes a character whose last bytes are still to come."""
CHARACTER_BYTES = 4


class Scored(NamedTuple):
    """The tokens of a prompt after its first, and their rows."""

    tokens: Sequence[Token]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Shown:
    """A token with the bytes it adds to the text before it, its log p and its likeliest alternatives.

    The last two are None where nothing precedes it.
    """

    id: int
    written: bytes
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
    pieces = added_bytes(ids, tokenizer)
    offsets = [min(at, len(text)) for at in starts(pieces)]
    return [Shown(*each) for each in zip(ids, pieces, offsets, values, tops, strict=True)]


def answer_shown(answer: Answer, tokenizer: Tokenizer, text: str, count: int, begin: int = 0) -> list[Shown]:
    """The tokens of an answer, the one that ended it included; `begin` is where its text stands in the reply.

    Of an answer that a stop string ended, only those whose text begins within the trimmed text.
    """
    trace = answer.trace
    shown: list[Shown] = []
    pieces = added_bytes(trace.ids, tokenizer)
    for i, at in enumerate(starts(pieces)):
        if trace.end is End.STOP and at >= len(text):
            break
        top = alternatives_of(trace.rows[i], count) if trace.rows is not None else []
        log_p = number(float(trace.log_p[i]) + float(trace.log_mass[i]))
        shown.append(Shown(trace.ids[i], pieces[i], begin + at, log_p, top))
    return shown


def added_bytes(ids: Sequence[int], tokenizer: Tokenizer) -> list[bytes]:
    """The bytes that each token adds to those before it.

    Where tokens are not bytes a token alone is not what it is within a text (SentencePiece drops a leading space):
    there it is what it adds to a few tokens before it. The tokens of one character are taken together: the last of
    them has its bytes.
    """
    if tokenizer.tokens_are_bytes:
        return [tokenizer.response_bytes([token]) for token in ids]
    found: list[bytes] = []
    start = done = 0  # the tokens before, and up to where all bytes are given to a token
    for end in range(1, len(ids) + 1):
        before, whole = tokenizer.response_bytes(ids[start:done]), tokenizer.response_bytes(ids[start:end])
        is_cut = whole.endswith(CUT) and end < min(done + CHARACTER_BYTES, len(ids))
        found.append(b"" if is_cut else whole[len(before) :])
        if not is_cut:
            start, done = done if found[-1] else start, end
    return found


def bytes_after(previous: Sequence[int], token: int, tokenizer: Tokenizer) -> bytes:
    """The bytes of a token that might have followed another; `previous` holds that one, or nothing."""
    if tokenizer.tokens_are_bytes:
        return tokenizer.response_bytes([token])
    before, whole = tokenizer.response_bytes(previous), tokenizer.response_bytes([*previous, token])
    return whole[len(before) :] if whole.startswith(before) else tokenizer.response_bytes([token])


def starts(pieces: Sequence[bytes]) -> Iterator[int]:
    """The characters before each token's own text."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    at = 0
    for piece in pieces:
        yield at
        at += len(decoder.decode(piece))


def completion_logprobs(shown: Sequence[Shown], tokenizer: Tokenizer, count: int) -> dict[str, Any]:
    """`logprobs` of a completion; without alternatives `top_logprobs` is null."""

    def named(top: list[tuple[int, float | None]] | None) -> dict[str, float | None] | None:
        names: dict[str, float | None] = {}
        for token, value in top or ():
            names.setdefault(tokenizer.token_text(token), value)  # of tokens with the same text the likeliest
        return None if top is None else names

    return {
        "tokens": [tokenizer.token_text(each.id) for each in shown],
        "token_logprobs": [each.log_p for each in shown],
        "top_logprobs": [named(each.top) for each in shown] if count else None,
        "text_offset": [each.offset for each in shown],
    }


def chat_logprobs(shown: Sequence[Shown], tokenizer: Tokenizer) -> dict[str, Any]:
    """`logprobs` of a chat choice."""

    def entry(token: int, log_p: float | None, written: bytes) -> dict[str, Any]:
        # a control token has no bytes
        return {"token": tokenizer.token_text(token), "logprob": log_p, "bytes": list(written) or None}

    def tops(each: Shown, previous: list[int]) -> list[dict[str, Any]]:
        return [entry(token, log_p, bytes_after(previous, token, tokenizer)) for token, log_p in each.top or ()]

    content = [
        {
            **entry(each.id, each.log_p, each.written),
            "top_logprobs": tops(each, [one.id for one in shown[max(i - 1, 0) : i]]),
        }
        for i, each in enumerate(shown)
    ]
    return {"content": content, "refusal": None}
