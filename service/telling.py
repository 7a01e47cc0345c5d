"""An event of a chain as JSON, with the text of its trace; and, if asked for, with the tokens it drew.

A stream tells events as they happen, `powercut sample --html` writes them down; both say the same.
"""

import codecs
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sampler.events import Event, Extended, Stepped
from sampler.stops import trim_at_stop
from sampler.tokenizer import Tokenizer, bytes_to_text
from service.logprobs import added_bytes
from service.render import number, plain

DIGITS = 5
"""Decimals of a token's statistics, in nats: finer than a picture shows, and a third of the characters."""
CONTEXT = 8
"""Tokens before a suffix that it is decoded with: a character spans four at most, and a few say where words begin."""


def trace_after(ids: tuple[int, ...], event: Event) -> tuple[int, ...]:
    """The ids of a chain's trace after an event, from those before it."""
    if isinstance(event, Extended):
        return event.ids
    if isinstance(event, Stepped) and event.moved:
        return ids[: event.cut] + event.proposal
    return ids


def without_statistics(event: Event) -> Event:
    """The event as it is kept until the reply: a chain's statistics would fill the memory."""
    has_any = isinstance(event, Extended | Stepped) and event.statistics is not None
    return replace(event, statistics=None) if has_any else event


def event_report(
    event: Event, ids: tuple[int, ...], tokenizer: Tokenizer, stop: Sequence[str], choice: int = 0, dropped: int = 0
) -> dict[str, Any]:
    """An event of the chain of answer `choice`, whose trace is `ids` after it. `dropped` were not told before."""
    text = bytes_to_text(trim_at_stop(tokenizer.response_bytes(ids), stop))
    report = {"type": type(event).__name__.lower(), "choice": choice, **plain(without_statistics(event)), "text": text}
    report.pop("statistics", None)
    if isinstance(event, Stepped):
        report["proposal_text"] = bytes_to_text(tokenizer.response_bytes(event.proposal))
    if isinstance(event, Extended | Stepped) and event.statistics is not None:
        report["tokens"] = tokens_report(event, ids, tokenizer)
    return report | ({"dropped": dropped} if dropped else {})


def tokens_report(event: Extended | Stepped, ids: tuple[int, ...], tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokens that an event drew: their texts, names of those without any, and their rows' statistics in nats.

    A token within a character has no text of its own either, but bytes, and no name.
    """
    assert event.statistics is not None
    columns = {name: getattr(event.statistics, name) for name in ("log_p", "log_z", "entropy")}
    start = event.cut if isinstance(event, Stepped) else len(ids) - len(event.statistics.log_p)
    new = event.proposal if isinstance(event, Stepped) else ids[start:]
    text_start, text = pieces(ids[:start], new, tokenizer)
    without = {token for token, piece in zip(new[::-1], text[::-1], strict=False) if not piece}
    silent = [token for token in sorted(without) if not tokenizer.response_bytes([token])]
    return {
        "start": start,
        "text_start": text_start,
        "text": text,
        "names": {str(token): tokenizer.token_text(token) for token in silent},
        **{name: [number(round(value, DIGITS)) for value in values.tolist()] for name, values in columns.items()},
    }


def pieces(before: Sequence[int], new: Sequence[int], tokenizer: Tokenizer) -> tuple[int, list[str]]:
    """The position from which texts are given, and what each token adds to the text, the `new` ones included.

    Joined, the texts of all tokens are the text. Of the tokens that one character is made of, the last has it; where
    the text ends within a character, the last token has U+FFFD. So the text of the token before the cut is given again
    if it ended within a character that the suffix goes on with.
    """
    known = list(before[-CONTEXT:])
    written = added_bytes([*known, *new], tokenizer)
    alone, whole = _decode(written[: len(known)]), _decode(written)
    back = int(bool(known and new) and alone[-1] != whole[len(known) - 1])
    return len(before) - back, whole[len(known) - back :]


def _decode(written: Sequence[bytes]) -> list[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(each, final=i == len(written) - 1) for i, each in enumerate(written)]
