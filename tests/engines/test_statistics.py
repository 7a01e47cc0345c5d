"""The engine's statistics are those of one plain forward pass over the finished trace, however it was drawn."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from sampler.answer import Answer
from sampler.engine import Request, Support
from sampler.engines.transformers.engine import TransformersEngine
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.rng import DrawKey
from tests.engines.models import EOS, VOCABULARY, tiny_engine

PROMPTS = ["The capital of France is", "def add(a, b):\n    return", "Once upon a time there was a small"]


def plain_statistics(
    network: Any, prompt: tuple[int, ...], ids: tuple[int, ...], alpha: float, top_k: int | None
) -> dict[str, np.ndarray]:
    """log p, log Z and entropy by the textbook, from transformers' own forward pass without a cache."""
    network.set_attn_implementation("sdpa")
    try:
        with torch.inference_mode():
            whole = torch.tensor([prompt + ids], device=network.device)
            logits = network(input_ids=whole, use_cache=False).logits[0, len(prompt) - 1 : -1].double().cpu()
    finally:
        network.set_attn_implementation("powercut")
    if top_k is not None:
        kth = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    log_p = logits.log_softmax(-1)
    drawn = log_p.gather(-1, torch.tensor(ids)[:, None])[:, 0]
    log_z = torch.logsumexp(alpha * log_p, -1)
    entropy = torch.special.entr(log_p.exp()).sum(-1)
    return {"log_p": drawn.numpy(), "log_z": log_z.numpy(), "entropy": entropy.numpy()}


def assert_agrees(
    engine: TransformersEngine, prompt: tuple[int, ...], answer: Answer, params: PowerParams, tolerance: float
) -> float:
    """Largest difference of any statistic of the answer's trace; asserts that it is within the tolerance."""
    trace = answer.trace
    expected = plain_statistics(engine.worker.model.network, prompt, trace.ids, params.alpha, params.top_k)
    worst = max(float(np.abs(getattr(trace, name) - values).max()) for name, values in expected.items())
    assert worst <= tolerance
    return worst


def run(
    engine: TransformersEngine,
    prompts: list[tuple[int, ...]],
    params: PowerParams,
    seed: int,
    method: str = "entropy_cut",
) -> list[Answer]:
    """One chain on each prompt, together."""

    async def all_of_them() -> list[Answer]:
        jobs = [Job(engine, prompt, params, seed) for prompt in prompts]
        return list(await asyncio.gather(*[METHODS[method](job) for job in jobs]))

    return asyncio.run(all_of_them())


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [None, 20])
@pytest.mark.parametrize("steps", [0, 6])
@pytest.mark.parametrize("kv_cache_bytes", [0, 1 << 30])
@pytest.mark.parametrize("together", [True, False])
def test_statistics_agree_with_a_plain_forward_pass(
    top_k: int | None, steps: int, kv_cache_bytes: int, together: bool
) -> None:
    engine = tiny_engine(torch.float32, kv_cache_bytes=kv_cache_bytes)
    params = PowerParams(24, alpha=2.0, blocks=3, steps_per_block=steps, top_k=top_k)
    prompts = [(3, 1, 4, 1, 5), (9, 2, 6), (5,), tuple(range(40, 80))]
    batches = [prompts] if together else [[prompt] for prompt in prompts]
    moved = 0
    for batch in batches:
        for prompt, answer in zip(batch, run(engine, batch, params, seed=5), strict=True):
            assert_agrees(engine, prompt, answer, params, 1e-3)
            moved += answer.usage.moved
    assert moved > 0 or steps == 0, "the case must include traces that were cut"
    engine.worker.close()


@pytest.mark.model
@pytest.mark.parametrize("top_k", [None, 50])
def test_default_model_agrees_with_a_plain_forward_pass(smollm2: TransformersEngine, top_k: int | None) -> None:
    params = PowerParams(24, blocks=2, steps_per_block=3, top_k=top_k)
    prompts = [tuple(smollm2.tokenizer.encode(text)) for text in PROMPTS]
    answers = run(smollm2, prompts, params, seed=1)
    worst = max(assert_agrees(smollm2, p, a, params, 1e-3) for p, a in zip(prompts, answers, strict=True))
    print(f"\nlargest difference of log p, log Z, entropy on SmolLM2 fp32, top_k {top_k}: {worst:.1e}")


def test_reused_prefixes_are_counted_and_recomputed_when_there_is_no_room(tiny: TransformersEngine) -> None:
    request = Request((3, 1, 4, 1, 5), 4, 1.0, Support(), DrawKey(b"k" * 32), 0, frozenset())
    first = asyncio.run(tiny.propose(request))
    again = asyncio.run(tiny.propose(request))
    assert (first.prefix_reused, again.prefix_reused) == (0, 4)
    assert again.tokens[0].id == first.tokens[0].id

    forgetful = tiny_engine(kv_cache_bytes=0)
    results = [asyncio.run(forgetful.propose(request)) for _ in range(2)]
    assert [segment.prefix_reused for segment in results] == [0, 0]
    assert [t.id for t in results[1].tokens] == [t.id for t in first.tokens]
    forgetful.worker.close()


def test_scoring_equals_a_plain_forward_pass(tiny: TransformersEngine) -> None:
    ids = tuple(int(token) for token in np.random.default_rng(0).integers(0, VOCABULARY, size=300))
    tokens, rows = asyncio.run(tiny.score(ids, start=5, head=3))
    expected = plain_statistics(tiny.worker.model.network, ids[:5], ids[5:], 1.0, None)
    np.testing.assert_allclose([token.log_p for token in tokens], expected["log_p"], atol=1e-9)
    np.testing.assert_allclose([row.entropy for row in rows], expected["entropy"], atol=1e-9)
    assert all(len(row.ids) == 3 for row in rows)


@pytest.mark.slow
def test_draws_follow_the_row_law_on_every_support(tiny: TransformersEngine) -> None:
    """First tokens over many keys against the exact q: full vocabulary (beyond the head too), top-k, nucleus."""
    prompt, count = (3, 1, 4), 3000
    network = tiny.worker.model.network
    network.set_attn_implementation("sdpa")
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1].double()
    network.set_attn_implementation("powercut")
    for support, alpha in ((Support(), 0.5), (Support("top_k", top_k=8), 2.0), (Support("top_p", top_p=0.6), 1.0)):
        q = (alpha * logits.log_softmax(-1)).softmax(-1)
        order = q.argsort(descending=True)
        if support.kind == "top_k":
            q = q * torch.isin(torch.arange(VOCABULARY), order[: support.top_k])
        if support.kind == "top_p":
            kept = int((q[order].cumsum(-1) < support.top_p).sum()) + 1
            q = q * torch.isin(torch.arange(VOCABULARY), order[:kept])
        q = q / q.sum()

        async def draw(support: Support = support, alpha: float = alpha) -> list[int]:
            keys = [DrawKey(i.to_bytes(32, "little")) for i in range(count)]
            requests = [Request(prompt, 1, alpha, support, key, 0, EOS) for key in keys]
            return [segment.tokens[0].id for segment in await asyncio.gather(*[tiny.propose(r) for r in requests])]

        seen = np.bincount(asyncio.run(draw()), minlength=VOCABULARY) / count
        assert 0.5 * np.abs(seen - q.numpy()).sum() < (0.15 if support.kind == "full" else 0.05)
        assert not seen[q.numpy() == 0].any()
