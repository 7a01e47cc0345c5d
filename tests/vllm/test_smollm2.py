"""The default model under vLLM: its statistics, its text, and a chain."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from sampler.engine import EngineOptions
from sampler.engines.huggingface.checkpoint import default_model
from sampler.engines.vllm import load
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from sampler.self_check import self_check
from tests.vllm.models import difference, load_network, request

pytestmark = pytest.mark.model

PROMPTS = ["The capital of France is", "def add(a, b):\n    return", "Once upon a time there was a small"]


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Any]:
    engine = load(EngineOptions(engine_args={"max_model_len": "1024"}))
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture(scope="module")
def smollm2_network() -> Any:
    return load_network(default_model())


async def test_statistics_agree_over_the_top_50(smollm2: Any, smollm2_network: Any) -> None:
    prompts = [tuple(smollm2.tokenizer.encode(text)) for text in PROMPTS]
    requests = [
        request(prompt, 24, alpha, key=i, eos_ids=smollm2.info.eos_ids)
        for i, (prompt, alpha) in enumerate((p, a) for p in prompts for a in (1.0, 4.0))
    ]
    segments = await asyncio.gather(*[smollm2.propose(one) for one in requests])
    worst = max(
        difference(smollm2_network, one.ids, segment.tokens, one.alpha, 50)
        for one, segment in zip(requests, segments, strict=True)
    )
    print(f"\nlargest difference of log p, log Z, entropy, log mass on SmolLM2 fp32, top 50: {worst:.1e}")
    assert worst < 1e-3


async def test_greedy_text_and_a_chain(smollm2: Any, smollm2_network: Any) -> None:
    prompt = tuple(smollm2.tokenizer.encode(PROMPTS[0]))
    greedy = await METHODS["standard"](Job(smollm2, prompt, PlainParams(5, temperature=0.0), seed=1))
    assert b"Paris" in smollm2.tokenizer.response_bytes(greedy.trace.ids)
    chains = [Job(smollm2, prompt, PowerParams(24, blocks=2, steps_per_block=4), seed=3, chain=i) for i in range(8)]
    answers = await asyncio.gather(*[METHODS["entropy_cut"](job) for job in chains])
    assert all(answer.usage.steps == 8 for answer in answers)
    assert smollm2.info.eos_ids == frozenset({2})


async def test_the_self_check_holds(smollm2: Any) -> None:
    found = await self_check(smollm2)
    assert all(one.holds for one in found), found
