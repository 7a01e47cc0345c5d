"""Whatever ends a request early frees it inside vLLM, and what is refused never gets there."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from sampler.engine import EngineOptions, Priority, Support, Verdict
from sampler.engines.vllm.settings import read_arguments
from sampler.errors import ContextExceeded, EngineError, InvalidParams
from sampler.trace import End, Token
from tests.vllm.models import request

FOREVER = frozenset[int]()


async def counters(engine: Any) -> tuple[int, int, int, float]:
    (found,) = await engine.backend.call(engine.backend.llm.collective_rpc("counters"))
    return tuple(found)  # type: ignore[return-value]


async def assert_idle(engine: Any) -> None:
    """The engine's counters go back to zero within two seconds: requests, memory, and ours."""
    for _ in range(100):
        ours = engine.backend.llm.get_num_unfinished_requests()
        if ours == 0 and await counters(engine) == (0, 0, 0, 0.0):
            break
        await asyncio.sleep(0.02)
    assert await counters(engine) == (0, 0, 0, 0.0)
    assert engine.backend.llm.get_num_unfinished_requests() == 0
    assert engine.room() == 32


async def until_running(engine: Any, count: int) -> None:
    while (await counters(engine))[0] < count:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("verdict", "end"), [(Verdict.REJECT, End.REJECTED), (Verdict.STOP, End.STOP)])
async def test_a_verdict_frees_the_request_and_saves_its_tokens(tiny: Any, verdict: Verdict, end: End) -> None:
    seen: dict[int, int] = {}

    def watch(number: int) -> Any:
        def judge(tokens: Sequence[Token]) -> Verdict | None:
            seen[number] = seen.get(number, 0) + len(tokens)
            return verdict if seen[number] > 6 else None

        return judge

    requests = [request(tokens=400, key=i, watch=watch(i), eos_ids=FOREVER) for i in range(8)]
    segments = await asyncio.gather(*[tiny.propose(one) for one in requests])
    await assert_idle(tiny)
    assert [segment.end for segment in segments] == [end] * 8
    assert [len(segment.tokens) for segment in segments] == [seen[i] for i in range(8)]
    assert max(seen.values()) < 60


async def test_cancelling_frees_the_request(tiny: Any) -> None:
    tasks = [asyncio.create_task(tiny.propose(request(tokens=450, key=i, eos_ids=FOREVER))) for i in range(8)]
    await until_running(tiny, 8)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await assert_idle(tiny)


@pytest.mark.parametrize("delay", [0.0, 0.0005, 0.002, 0.005])
async def test_cancelling_at_any_moment_frees_the_request(tiny: Any, delay: float) -> None:
    for key in range(10):
        task = asyncio.create_task(tiny.propose(request(tokens=300, key=key, eos_ids=FOREVER)))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await assert_idle(tiny)


async def test_a_failing_watcher_harms_its_own_caller_alone(tiny: Any) -> None:
    def watch(tokens: Sequence[Token]) -> Verdict | None:
        raise ZeroDivisionError

    bad = tiny.propose(request(tokens=400, watch=watch, eos_ids=FOREVER))
    results = await asyncio.gather(bad, tiny.propose(request(tokens=5)), return_exceptions=True)
    assert isinstance(results[0], EngineError)
    assert not isinstance(results[1], BaseException)
    await assert_idle(tiny)


async def test_drawing_ahead_makes_way(tiny: Any) -> None:
    ahead = [request(tokens=450, key=i, eos_ids=FOREVER, priority=Priority.PREFETCH) for i in range(32)]
    tasks = [asyncio.create_task(tiny.propose(one)) for one in ahead]
    await until_running(tiny, 32)
    assert tiny.room() == 0
    urgent = await tiny.propose(request(tokens=3, eos_ids=FOREVER))
    assert len(urgent.tokens) == 3
    segments = await asyncio.gather(*tasks)
    assert [segment.end for segment in segments].count(End.CANCELLED) == 1
    await assert_idle(tiny)


async def test_more_requests_than_rows_all_get_their_answer(tiny: Any) -> None:
    segments = await asyncio.gather(*[tiny.propose(request(tokens=5, key=i, eos_ids=FOREVER)) for i in range(100)])
    assert all(len(segment.tokens) == 5 for segment in segments)
    await assert_idle(tiny)


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"support": Support()}, "top_k", "needs top_k between 20 and 50"),
        ({"support": Support("top_p", top_p=0.9)}, "top_k", "needs top_k between 20 and 50"),
        ({"top_k": 51}, "top_k", "must be between 20 and 50"),
        ({"top_k": 19}, "top_k", "must be between 20 and 50"),
        ({"head": 51}, "logprobs", "at most 50"),
        ({"ids": (512,)}, "prompt", "between 0 and 511"),
        ({"alpha": 0.0}, "alpha", "positive"),
    ],
)
async def test_what_has_no_statistics_is_refused(tiny: Any, changes: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidParams, match=says) as caught:
        await tiny.propose(request(**changes))
    assert caught.value.field == field


async def test_texts_that_do_not_fit_are_refused(tiny: Any) -> None:
    with pytest.raises(ContextExceeded):
        await tiny.propose(request(tokens=510))
    with pytest.raises(InvalidParams, match="2 to 511 tokens"):
        await tiny.score([1] * 512, 1)
    with pytest.raises(InvalidParams, match="at most 50"):
        await tiny.score([1] * 10, 1, head=51)


def test_engine_arguments_are_read_as_on_vllms_command_line() -> None:
    read = read_arguments({"--tensor-parallel-size": "2", "gpu_memory_utilization": "0.8", "max_model_len": 64})
    assert read == {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.8, "max_model_len": 64}
    assert read_arguments({"max-model-len": "1k"}) == {"max_model_len": 1000}
    flags = {"no_enable_prefix_caching": True, "enforce_eager": True}
    assert read_arguments(flags) == {"enable_prefix_caching": False, "enforce_eager": True}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine_args": {"no-such-thing": "1"}}, "no engine argument no_such_thing"),
        ({"engine_args": {"max-model-len": "long"}}, "refuses its arguments"),
        ({"engine_args": {"enable_chunked_prefill": True}}, "dies of seeded prompts"),
        ({"engine_args": {"logprobs_mode": "raw_logits"}}, "sets logprobs_mode itself"),
        ({"device": "cpu"}, "no option device"),
    ],
)
def test_arguments_that_vllm_does_not_have_are_refused(checkpoint: Any, options: dict[str, Any], says: str) -> None:
    from sampler.engines.vllm.settings import prepare

    with pytest.raises(InvalidParams, match=says):
        prepare(str(checkpoint), EngineOptions(model=str(checkpoint), **options))
