"""What a request asks of vLLM, every field that changes the law set explicitly."""

import hashlib
import struct
from typing import Any

from sampler.engine import EngineInfo, Request
from sampler.engines.vllm.library import RequestOutputKind, SamplingParams
from sampler.errors import InvalidParams
from sampler.rng import DrawKey

MIN_TOP_K = 20
"""Below it a tie at the last rank carries too much: up to (p_k / p_1)^α of a draw may come from outside the row."""
WATCH_INTERVAL = 4
"""Tokens that vLLM hands over at once. Measured on eight chains of SmolLM2: against looking at every token, 4 draws 3 %
more tokens (16: 7 to 10 %) and spends 9 to 15 % less Python time a token (16: 17 to 25 %). The chains are the same."""


def check_support(request: Request, info: EngineInfo, max_top_k: int) -> None:
    """Raise `InvalidParams` for a support of which vLLM's values do not give the statistics."""
    if request.head > max_top_k:
        raise InvalidParams("logprobs", f"the {info.name} engine returns at most {max_top_k} values of a row")
    if request.plain:
        return
    low, high = min(MIN_TOP_K, info.vocabulary), max_top_k
    if request.support.kind != "top_k":
        raise InvalidParams(
            "top_k",
            f"the {info.name} engine needs top_k between {low} and {high}: it returns that many values of a row",
        )
    if not low <= min(request.support.top_k, info.vocabulary) <= high:
        raise InvalidParams("top_k", f"on the {info.name} engine top_k must be between {low} and {high}")


def values_wanted(request: Request, vocabulary: int) -> int:
    """How many values of each row vLLM has to return."""
    support = 1 if request.plain else request.support.top_k
    return min(max(support, request.head), vocabulary)


def sampling_params(request: Request, drawn: int, values: int) -> Any:
    """vLLM's parameters for drawing on after the first `drawn` tokens of a segment."""
    greedy = request.alpha == float("inf")
    return SamplingParams(
        n=1,
        temperature=0.0 if greedy else 1.0 / request.alpha,
        top_k=request.support.top_k if request.support.kind == "top_k" else 0,
        top_p=request.support.top_p if request.support.kind == "top_p" else 1.0,
        min_p=0.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        repetition_penalty=1.0,
        seed=seed(request.key, request.position + drawn),
        stop=None,
        stop_token_ids=sorted(request.eos_ids),
        ignore_eos=True,  # the request says which ids end a text, not the checkpoint
        min_tokens=1 if request.bars_end and drawn == 0 else 0,
        max_tokens=request.max_tokens - drawn,
        logprobs=values,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        stream_interval=WATCH_INTERVAL if request.watch is not None else request.max_tokens - drawn,
    )


def scoring_params(values: int) -> Any:
    """vLLM's parameters for the rows of a prompt."""
    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=values,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def seed(key: DrawKey, position: int) -> int:
    """The seed of a vLLM request that draws from `position` on: 63 bits of the key.

    Fresh for every step, since a seed restarts vLLM's noise; and never the bits of `key.uniform`, which redraw ties.
    """
    word = hashlib.blake2b(struct.pack("<q", position), key=key.digest, digest_size=8, person=b"vllm seed").digest()
    return int.from_bytes(word, "little") >> 1
