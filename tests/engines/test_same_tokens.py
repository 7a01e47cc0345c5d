"""Early rejection and batching change the cost of a chain and not one of its tokens."""

import asyncio
from dataclasses import replace

import pytest
import torch

from sampler.answer import Answer
from sampler.engines.transformers.engine import TransformersEngine
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from tests.engines.models import tiny_engine
from tests.engines.test_statistics import PROMPTS, run

LONG_PROMPTS = [
    "Question: what is 12 plus 30? Answer:",
    "The sum of the first ten odd numbers is",
    "If all cats are animals and Tom is a cat, then",
    "def fibonacci(n):\n    ",
    "The three primary colours are",
    "Water boils at a temperature of",
    "A train travels 60 miles in one hour. In three hours it travels",
    "The opposite of hot is",
    "import numpy as np\n\ndef mean(x):\n    ",
    "Dear Sir or Madam, I am writing to",
    "The largest planet in the solar system is",
    "To make a cup of tea, first",
    "Q: Is 17 a prime number? A:",
    "The square root of 144 is",
    "In 1969, astronauts landed on",
    "for i in range(10):\n    ",
    "The French word for cat is",
    "Once upon a time, in a small village,",
    "Photosynthesis is the process by which",
    "The next number in the sequence 2, 4, 8, 16 is",
]


def alone(engine: TransformersEngine, prompts: list[tuple[int, ...]], params: PowerParams, seed: int) -> list[Answer]:
    return [run(engine, [prompt], params, seed)[0] for prompt in prompts]


def without_savings(params: PowerParams) -> PowerParams:
    """The plain chain: every proposal drawn to its end, every token by the engine, one step after another."""
    return replace(params, early_rejection=False, memo_tree=False, prefetch=False)


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [None, 10])
@pytest.mark.parametrize("method", ["entropy_cut", pytest.param("uniform_cut", marks=pytest.mark.slow)])
def test_float64_chains_are_the_same_alone_together_and_without_early_rejection(top_k: int | None, method: str) -> None:
    prompts = [(3, 1, 4), (1,), (5, 9, 2, 6, 5, 3), (8, 9), tuple(range(100, 130))]
    plain = without_savings(PowerParams(30, alpha=2.0, blocks=3, steps_per_block=8, top_k=top_k))
    early = replace(plain, early_rejection=True)
    every = replace(early, memo_tree=True, prefetch=True)
    engines = [tiny_engine(), tiny_engine(max_rows=2), tiny_engine(kv_cache_bytes=0)]
    runs = [run(engines[0], prompts, params, 3, method) for params in (plain, early)]
    runs += [run(engine, prompts, every, 3, method) for engine in engines]
    runs.append(run(engines[0], prompts, replace(plain, memo_tree=True), 3, method))
    runs.append([run(engines[0], [prompt], every, 3, method)[0] for prompt in prompts])
    for answers in runs[1:]:
        assert [a.trace.ids for a in answers] == [a.trace.ids for a in runs[0]]
        assert [a.usage.accepted for a in answers] == [a.usage.accepted for a in runs[0]]
    generated = [sum(a.usage.generated_tokens for a in answers) for answers in runs]
    assert generated[1] < generated[0], "early rejection must save tokens here, or the case shows nothing"
    assert generated[5] < generated[0], "and so must the memo tree"
    assert sum(a.usage.rejected_early for a in runs[1]) > 0
    for engine in engines:
        engine.worker.close()


def test_chains_of_one_prompt_differ_and_do_not_depend_on_how_many_there_are(tiny: TransformersEngine) -> None:
    params = PowerParams(16, alpha=2.0, blocks=2, steps_per_block=4)

    async def chains(count: int) -> list[tuple[int, ...]]:
        jobs = [Job(tiny, (3, 1, 4), params, 11, chain) for chain in range(count)]
        return [a.trace.ids for a in await asyncio.gather(*[METHODS["entropy_cut"](job) for job in jobs])]

    eight = asyncio.run(chains(8))
    assert asyncio.run(chains(3)) == eight[:3]
    assert len(set(eight)) > 1


@pytest.mark.model
@pytest.mark.slow
def test_default_model_in_float64_gives_the_same_tokens(smollm2_float64: TransformersEngine) -> None:
    prompts = [tuple(smollm2_float64.tokenizer.encode(text)) for text in PROMPTS]
    every = PowerParams(16, blocks=2, steps_per_block=4)
    plain = without_savings(every)
    together = run(smollm2_float64, prompts, every, 2)
    assert sum(a.usage.free_tokens for a in together) > 0
    assert [a.trace.ids for a in run(smollm2_float64, prompts, plain, 2)] == [a.trace.ids for a in together]
    assert [a.trace.ids for a in alone(smollm2_float64, prompts[:1], every, 2)] == [together[0].trace.ids]


def saved_and_flips(
    engine: TransformersEngine, texts: list[str], params: PowerParams, plain: PowerParams
) -> tuple[float, int]:
    """Tokens with early rejection ÷ without, over prompts; and how many answers differ (CDF-edge flips of fp32)."""
    prompts = [tuple(engine.tokenizer.encode(text)) for text in texts]
    with_it, without = run(engine, prompts, params, 4), run(engine, prompts, plain, 4)
    used = sum(a.usage.generated_tokens for a in with_it) / sum(a.usage.generated_tokens for a in without)
    flips = sum(a.trace.ids != b.trace.ids for a, b in zip(with_it, without, strict=True))
    return used, flips


@pytest.mark.model
def test_early_rejection_saves_tokens_on_the_default_model(smollm2: TransformersEngine) -> None:
    plain = without_savings(PowerParams(32, blocks=4, steps_per_block=5))
    early = replace(plain, early_rejection=True)
    used, flips = saved_and_flips(smollm2, LONG_PROMPTS[:3], early, plain)
    print(f"\nSmolLM2 fp32, 3 prompts, 4 x 5 steps, 32 tokens: {used:.2f} of the tokens, {flips} answers flipped")
    assert used < 1.0
    assert flips <= 1


@pytest.mark.model
@pytest.mark.long
@pytest.mark.timeout(3000)
def test_early_rejection_saves_tokens_over_twenty_prompts(smollm2: TransformersEngine) -> None:
    plain = without_savings(PowerParams(128, blocks=4, steps_per_block=10))
    early = replace(plain, early_rejection=True)
    used, flips = saved_and_flips(smollm2, LONG_PROMPTS, early, plain)
    print(
        f"\nSmolLM2 fp32, 20 prompts, 4 x 10 steps, 128 tokens: {used:.3f} of the tokens, {flips} of 20 answers flipped"
    )
    assert used < 0.9
    assert flips <= 2


@pytest.mark.slow
def test_float32_flips_are_rare(tiny: TransformersEngine) -> None:
    """The same chains in fp32 and float64: rounding may flip a draw at a CDF edge, once in about 10^5 tokens."""
    single = tiny_engine(torch.float32)
    prompts = [(i, i + 1, i + 2) for i in range(20)]
    params = PowerParams(24, alpha=2.0, blocks=2, steps_per_block=5)
    pairs = zip(run(tiny, prompts, params, 9), run(single, prompts, params, 9), strict=True)
    flips = sum(a.trace.ids != b.trace.ids for a, b in pairs)
    print(f"\ntiny Llama, fp32 against float64: {flips} of {len(prompts)} chains differ")
    assert flips <= 2
    single.worker.close()
