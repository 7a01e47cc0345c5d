"""What goes over the wire: the body of a proposal, and the rows in a server's answer. Pure functions.

Every sampling field is sent, whatever its default: a server started without `--generation-config vllm` fills the
missing ones from the model's files, which would change the proposal unseen. The end-of-sequence ids are ours, sent
as stop tokens, with the server's own ignored.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from sampler.engine import Request
from sampler.errors import EngineError, EngineOutOfMemory, InvalidParams, SamplerError
from sampler.rng import DrawKey
from sampler.row import Floats, Ids, Row, log_sum_exp, row_of_head, row_of_top
from sampler.trace import Token

FLOOR = -9999.0
"""What vLLM writes for −∞, which JSON does not have."""
MIN_TEMPERATURE = 0.01
"""vLLM raises smaller ones to this without a word."""
CLIP = 300
"""Characters of a server's own message that an error repeats."""
PREFIX = "token_id:"
REPLY = "the server's reply is not what vLLM sends"


class Drawn(NamedTuple):
    """A token as the server drew it: its log p over the whole vocabulary, and the likeliest tokens of its row."""

    token: int
    log_p: float
    ids: Ids
    logits: Floats


class Chunk(NamedTuple):
    """One event of a stream: new tokens, and why the server ended if it did."""

    tokens: list[Drawn]
    finish: str | None
    prompt_ids: list[int] | None = None


def seed_of(key: DrawKey, position: int) -> int:
    """63 bits fixed by the key and the first position drawn: a call asked again draws the same."""
    word = hashlib.blake2b(struct.pack("<q", position), key=key.digest, digest_size=8, person=b"seed").digest()
    return int.from_bytes(word, "little") >> 1


def proposal(model: str, request: Request, drawn: Sequence[int], values: int, interval: int) -> dict[str, Any]:
    """The body that asks for the rest of a request of which `drawn` is there already, with so many values a row."""
    greedy = math.isinf(request.alpha)
    support = request.support
    return {
        "model": model,
        "prompt": [*request.ids, *drawn],
        "max_tokens": request.max_tokens - len(drawn),
        "temperature": 0.0 if greedy else 1.0 / request.alpha,
        "top_k": support.top_k if support.kind == "top_k" else 0,
        "top_p": support.top_p if support.kind == "top_p" else 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "min_tokens": 1 if request.bars_end and not drawn else 0,
        "n": 1,
        "seed": seed_of(request.key, request.position + len(drawn)),
        "stop_token_ids": sorted(request.eos_ids),
        "ignore_eos": True,
        "add_special_tokens": False,
        "skip_special_tokens": False,
        "logprobs": values,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "stream": True,
        "stream_interval": interval,
    }


def scoring(model: str, ids: Sequence[int], values: int) -> dict[str, Any]:
    """The body that asks for the rows along a given text; the one token drawn after it is thrown away."""
    return {
        "model": model,
        "prompt": list(ids),
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": values,
        "ignore_eos": True,
        "add_special_tokens": False,
        "stream": False,
    }


def read_chunk(data: bytes) -> Chunk:
    """An event of the stream. Raises `EngineError` for anything that is not one."""
    event = read_json(data)
    if event.get("error"):
        raise failure(f"the server failed in the middle of its answer: {message_of(event)}")
    choices = event.get("choices")
    if not isinstance(choices, list):
        raise EngineError(f"{REPLY}: no choices")
    if not choices:  # the usage event that some servers add
        return Chunk([], None)
    choice = cast("list[Any]", choices)[0]
    try:
        ids, logprobs = part(choice, "token_ids", []), part(choice, "logprobs", {})
        values, rows = part(logprobs, "token_logprobs", []), part(logprobs, "top_logprobs", [])
        tokens = [
            Drawn(int(token), number(value), *read_row(row))
            for token, value, row in zip(ids, values, rows, strict=True)
        ]
    except (AttributeError, TypeError, ValueError) as error:
        raise EngineError(f"{REPLY}: token_ids and logprobs do not fit together ({error})") from None
    return Chunk(tokens, choice.get("finish_reason"), choice.get("prompt_token_ids"))


def read_row(row: Mapping[str, Any]) -> tuple[Ids, Floats]:
    """A `top_logprobs` map as ids and values, likeliest first, ties by id. Called for every token, so it is terse."""
    skipped = len(PREFIX)
    ids = np.array([int(name[skipped:]) for name in row], dtype=np.int64)
    values = np.array(list(row.values()), dtype=np.float64)
    values[values <= FLOOR] = -np.inf
    return _sorted(ids, values)


def read_scores(body: Mapping[str, Any], ids: Sequence[int], start: int) -> list[Drawn]:
    """The rows of ids[start:] from an answer with `prompt_logprobs`."""
    try:
        rows = body["choices"][0]["prompt_logprobs"][start:]
        found: list[Drawn] = []
        for token, row in zip(ids[start:], rows, strict=True):
            values = {int(name): number(entry["logprob"]) for name, entry in row.items()}
            names = np.array(list(values), dtype=np.int64)
            found.append(Drawn(token, values[token], *_sorted(names, np.array(list(values.values())))))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        raise EngineError(f"{REPLY}: no prompt_logprobs for the text to score") from None
    return found


def support_row(drawn: Drawn, values: int, size: int, alpha: float) -> Row:
    """The row over the `size` likeliest tokens. The drawn one is not in it after a tie at its edge.

    vLLM draws from all tokens that tie with the last of the support, but returns `values` and the drawn one.
    """
    ids, logits = drawn.ids, drawn.logits
    if len(ids) == values + 1:
        inside = ids != drawn.token
        ids, logits = ids[inside], logits[inside]
    if len(ids) != values:
        raise EngineError(f"the server returned {len(ids)} logprobs of a row instead of {values}")
    return row_of_top(ids.astype(np.int32), logits.astype(np.float32), size, alpha, 0.0)


def place(row: Row, token: int) -> int | None:
    """Where in the row's support a token is, None if nowhere."""
    where = np.flatnonzero(row.ids[: row.size] == token)
    return int(where[0]) if len(where) else None


def head_row(drawn: Drawn, alpha: float, head: int) -> tuple[Row, Token]:
    """The row over the whole vocabulary, as far as its `head` likeliest values tell it, and the drawn token.

    log p is exact. ℓ is not known (0 is put), and H counts all other tokens as one: at most the true entropy. Nothing
    in plain sampling or scoring uses either.
    """
    values = drawn.logits
    mass = min(math.exp(log_sum_exp(values)), 1.0)
    entropy = float(-(np.exp(values) * np.maximum(values, FLOOR)).sum())
    if mass < 1.0:
        entropy -= (1.0 - mass) * math.log1p(-mass)
    ids, logits = drawn.ids[:head].astype(np.int32), values[:head].astype(np.float32)
    row = row_of_head(ids, logits, alpha, 0.0, 0.0, entropy)
    return row, Token(drawn.token, drawn.log_p, row.log_z, row.entropy, 0.0)


def read_json(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises `EngineError` for anything else."""
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise EngineError(f"{REPLY}: {data[:80].decode(errors='replace')!r} is not a JSON object")
    return cast("dict[str, Any]", found)


def part(body: Any, name: str, default: Any) -> Any:
    """A field of an object, the default where it is missing or null."""
    found = body.get(name)
    return default if found is None else found


def error_text(body: bytes) -> str:
    """What a server says about a failure, in one line, whatever the shape."""
    try:
        return message_of(read_json(body)) or "no reason given"
    except EngineError:
        return clip(body.decode(errors="replace")) or "no reason given"


def failure(message: str) -> SamplerError:
    """What a server's message is an error of: vLLM sends some as events of a stream that began well."""
    if "logprobs" in message:
        return InvalidParams("top_k", f"top_k asks for more values of a row than the server returns: {message}")
    return EngineOutOfMemory(message) if "out of memory" in message.lower() else EngineError(message)


def message_of(body: Mapping[str, Any]) -> str:
    """The message in an error body, in whichever shape, clipped to one line."""
    error = body.get("error", body.get("detail", body.get("message", "")))
    found = cast("dict[str, Any]", error).get("message", error) if isinstance(error, dict) else error
    return clip(str(found))


def clip(text: str) -> str:
    """One line of limited length."""
    line = " ".join(text.split())
    return line if len(line) <= CLIP else f"{line[:CLIP]}…"


def number(value: Any) -> float:
    """A log p; null is how NaN looks in JSON."""
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")
    return -math.inf if value <= FLOOR else float(value)


def _sorted(ids: Ids, values: Floats) -> tuple[Ids, Floats]:
    order = np.lexsort((ids, -values))
    return ids[order], values[order]
