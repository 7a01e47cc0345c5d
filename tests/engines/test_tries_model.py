"""What stopping tries early saves on the default model: `pytest tests/engines/test_tries_model.py -m long -s`."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from sampler.answer import Answer
from sampler.engines.transformers.engine import TransformersEngine
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams

PROMPTS = (
    "The three primary colours are",
    "Q: What is 17 times 6?\nA:",
    "Once upon a time there was a",
    "def is_even(n):\n",
    "The capital of Australia is",
    "To make a cup of tea, first",
)
WHOLE = PowerParams(64, 4.0, 4.0, 4, 5, 50, tries=4, early_rejection=False, memo_tree=False)


async def answers(engine: TransformersEngine, params: PowerParams) -> list[Answer]:
    """One answer to each prompt, side by side."""
    jobs = [Job(engine, tuple(engine.tokenizer.encode(prompt)), params, 7) for prompt in PROMPTS]
    return list(await asyncio.gather(*[METHODS["multiple_try"](job) for job in jobs]))


@pytest.mark.long
@pytest.mark.model
@pytest.mark.timeout(1800)
async def test_stopping_early_saves_tokens_for_the_same_winners(
    smollm2: TransformersEngine, record_property: Callable[[str, object], None]
) -> None:
    whole = await answers(smollm2, WHOLE)
    drawn = sum(answer.usage.generated_tokens for answer in whole)
    shares: dict[str, float] = {}
    for name, params in (
        ("one after the other", replace(WHOLE, early_rejection=True, prefetch=False)),
        ("with the memo tree", replace(WHOLE, early_rejection=True, prefetch=False, memo_tree=True)),
    ):
        early = await answers(smollm2, params)
        shares[name] = sum(answer.usage.generated_tokens for answer in early) / drawn
        same = sum(a.trace.ids == b.trace.ids for a, b in zip(whole, early, strict=True))
        assert same >= len(PROMPTS) - 1, "in float32 a draw at an edge may flip, but rarely"
    print(f"{drawn} tokens without early stop; shares with: {shares}")
    record_property("shares", shares)
    assert shares["one after the other"] < 0.8
    assert shares["with the memo tree"] < 0.5
