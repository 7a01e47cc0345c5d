"""The remote engine against a real vLLM server of this machine, started as a user would start one."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
import torch

from sampler.engine import EngineOptions, Support, Verdict, load_engine
from sampler.engines import remote
from sampler.engines.huggingface.checkpoint import default_model
from sampler.engines.remote.engine import RemoteEngine
from sampler.errors import InvalidParams, ModelNotFound
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from sampler.self_check import CHECKS, self_check
from sampler.trace import End, Token
from tests.exact.checks import chi_square_p
from tests.service.serving import free_port
from tests.vllm.models import difference, expected_rows, load_network, request

pytestmark = [pytest.mark.model, pytest.mark.slow]

PROMPTS = ["The capital of France is", "def add(a, b):\n    return", "Once upon a time there was a small"]
KEY = "loopback"
START_S = 240
# Not --generation-config vllm: whatever a checkpoint's own settings are, they must not reach a proposal.
OPTIONS = (
    "--dtype float32 --enforce-eager --max-model-len 1024 --max-num-seqs 32 --block-size 32 --max-logprobs 50 "
    "--no-enable-chunked-prefill --max-num-batched-tokens 1024 --kv-cache-memory-bytes 1073741824 "
    f"--enable-tokenizer-info-endpoint --served-model-name smollm2 --api-key {KEY}"
)
ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`vllm serve`; the command itself of the CPU build fails on the name of its own package."""
    port, log = free_port(), tmp_path_factory.mktemp("vllm") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(default_model())]
    command += ["--host", "127.0.0.1", "--port", str(port), *OPTIONS.split()]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT)
    try:
        wait_for(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)


@pytest.fixture(scope="module")
def smollm2_network() -> Any:
    return load_network(default_model())


@pytest_asyncio.fixture
async def engine(server: str) -> AsyncIterator[RemoteEngine]:
    options = EngineOptions(url=(server,), api_key=KEY, tokenizer=str(default_model()))
    loaded = await asyncio.to_thread(load_engine, "remote", options)
    assert isinstance(loaded, RemoteEngine)
    yield loaded
    await loaded.aclose()


def gauge(url: str, name: str) -> float:
    """The sum of one of the server's own counters over its labels."""
    lines = httpx.get(f"{url}/metrics", timeout=5).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"vllm:{name}{{"))


async def until(condition: Callable[[], bool], patience_s: float = 20) -> None:
    async with asyncio.timeout(patience_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


async def test_statistics_agree_over_the_top_50(engine: RemoteEngine, smollm2_network: Any) -> None:
    prompts = [tuple(engine.tokenizer.encode(text)) for text in PROMPTS]
    requests = [
        request(prompt, 24, alpha, key=i, eos_ids=engine.info.eos_ids)
        for i, (prompt, alpha) in enumerate((p, a) for p in prompts for a in (1.0, 4.0))
    ]
    segments = await asyncio.gather(*[engine.propose(one) for one in requests])
    worst = max(
        difference(smollm2_network, one.ids, segment.tokens, one.alpha, 50)
        for one, segment in zip(requests, segments, strict=True)
    )
    print(f"\nlargest difference of log p, log Z, entropy, log mass on SmolLM2 fp32, top 50: {worst:.1e}")
    assert worst < 1e-3
    alone = [await engine.propose(one) for one in requests[:2]]
    assert [[t.id for t in s.tokens] for s in alone] == [[t.id for t in s.tokens] for s in segments[:2]]


async def test_the_self_check_holds_but_for_what_a_server_does_not_tell(engine: RemoteEngine) -> None:
    found = await self_check(engine)
    assert [one.holds for one in found if one.name != "prefixes are reused"] == [True] * (len(CHECKS) - 1), found
    assert next(one for one in found if one.name == "prefixes are reused").holds is None


async def test_first_tokens_follow_q(engine: RemoteEngine, smollm2_network: Any) -> None:
    prompt, alpha, count = tuple(engine.tokenizer.encode(PROMPTS[2])), 1.5, 320
    requests = [request(prompt, 1, alpha, top_k=20, key=1000 + i, eos_ids=engine.info.eos_ids) for i in range(count)]
    segments = await asyncio.gather(*[engine.propose(one) for one in requests])
    values, ids = expected_rows(smollm2_network, prompt, (0,))[0].topk(20)
    q = torch.softmax(alpha * values, 0).numpy()
    place = {int(token): i for i, token in enumerate(ids)}
    counts = np.bincount([place[segment.tokens[0].id] for segment in segments], minlength=20)
    assert chi_square_p(counts, q) > 1e-4


async def test_a_verdict_and_a_cancelled_call_free_the_server(engine: RemoteEngine, server: str) -> None:
    await until(lambda: gauge(server, "num_requests_running") == 0)
    before = await asyncio.to_thread(gauge, server, "generation_tokens_total")
    seen: list[int] = []

    def watch(tokens: Any) -> Verdict | None:
        seen.extend(token.id for token in tokens)
        return Verdict.REJECT if len(seen) >= 5 else None

    segment = await engine.propose(request((504, 505), 600, 1.0, eos_ids=frozenset(), watch=watch))
    assert segment.end is End.REJECTED
    await until(lambda: gauge(server, "num_requests_running") == 0)
    drawn = await asyncio.to_thread(gauge, server, "generation_tokens_total") - before
    print(f"\nrejected after {len(segment.tokens)} tokens; the server drew {drawn:.0f} of 600")
    assert drawn < 60

    long = [request((504, i), 600, 1.0, eos_ids=frozenset(), key=i) for i in range(4)]
    tasks = [asyncio.create_task(engine.propose(one)) for one in long]
    await until(lambda: gauge(server, "num_requests_running") == 4)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: gauge(server, "num_requests_running") == 0)
    assert engine.room() == engine._slots.limit


async def test_chains_run_end_to_end_and_replay(engine: RemoteEngine, smollm2_network: Any, server: str) -> None:
    prompt = tuple(engine.tokenizer.encode(PROMPTS[1]))
    params = PowerParams(32, blocks=2, steps_per_block=4)
    jobs = [Job(engine, prompt, params, seed=3, chain=i, affinity=str(i)) for i in range(8)]
    hits = await asyncio.to_thread(gauge, server, "prefix_cache_hits_total")
    answers = await asyncio.gather(*[METHODS["entropy_cut"](job) for job in jobs])
    for answer in answers:
        assert answer.usage.steps == 8
        columns = (answer.trace.log_p, answer.trace.log_z, answer.trace.entropy, answer.trace.log_mass)
        tokens = [Token(i, *row) for i, *row in zip(answer.trace.ids, *(c.tolist() for c in columns), strict=True)]
        assert difference(smollm2_network, prompt, tokens, 4.0, 50) < 1e-3
    assert any(answer.usage.moved for answer in answers)
    assert await asyncio.to_thread(gauge, server, "prefix_cache_hits_total") > hits
    again = await METHODS["entropy_cut"](jobs[0])
    assert again.trace.ids == answers[0].trace.ids


async def test_plain_sampling_and_scoring_know_the_whole_vocabulary(engine: RemoteEngine, smollm2_network: Any) -> None:
    prompt = tuple(engine.tokenizer.encode(PROMPTS[0]))
    greedy = await METHODS["standard"](Job(engine, prompt, PlainParams(5, temperature=0.0), seed=1, logprobs=3))
    assert b"Paris" in engine.tokenizer.response_bytes(greedy.trace.ids)
    wanted = expected_rows(smollm2_network, prompt, greedy.trace.ids).log_softmax(-1)
    exact = wanted.gather(-1, torch.tensor(greedy.trace.ids)[:, None])[:, 0].numpy()
    np.testing.assert_allclose(greedy.trace.log_p, exact, atol=1e-3)
    tokens, rows = await engine.score(prompt + greedy.trace.ids, start=len(prompt), head=3)
    np.testing.assert_allclose([token.log_p for token in tokens], exact, atol=1e-3)
    assert [row.ids.tolist() for row in rows] == [row.topk(3).indices.tolist() for row in wanted]
    nucleus = request(prompt, 8, 1 / 0.7, support=Support("top_p", top_p=0.8), plain=True, eos_ids=frozenset())
    assert len((await engine.propose(nucleus)).tokens) == 8


async def test_a_support_beyond_the_servers_maximum_is_the_callers_mistake(engine: RemoteEngine) -> None:
    with pytest.raises(InvalidParams, match="greater than max allowed: 50") as caught:
        await engine.propose(request((504, 505), 4, top_k=51, eos_ids=frozenset()))
    assert caught.value.field == "top_k"


def test_the_servers_own_tokenizer_is_enough(server: str) -> None:
    engine = remote.connect([f"{server}/v1"], api_key=KEY)
    assert engine.info.eos_ids == frozenset({2})
    assert engine.info.vocabulary == 49152
    assert engine.info.details["vllm"] == "0.32.0"
    here = load_engine("remote", EngineOptions(url=(server,), api_key=KEY, tokenizer=str(default_model())))
    text = "Zwölf  Boxkämpfer\n\tjagen 😀"
    assert engine.tokenizer.encode(text) == here.tokenizer.encode(text)
    assert engine.tokenizer.response_bytes([*engine.tokenizer.encode(text), 2]) == text.encode()
    assert here.info.vocabulary == 49152
    for each in (engine, here):
        asyncio.run(each.aclose())


def test_what_is_missing_is_named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFound, match="--api-key"):
        remote.connect([server])
    with pytest.raises(ModelNotFound, match="does not serve 'gpt' but 'smollm2'"):
        remote.connect([server], "gpt", api_key=KEY)
    monkeypatch.setattr(remote, "TOP_LOGPROBS", 60)
    with pytest.raises(ModelNotFound, match=r"--max-logprobs 60 \(it says: .*50"):
        remote.connect([server], api_key=KEY)
