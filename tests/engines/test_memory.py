"""The bound on keys and values holds for the process, and for everything that counts against it."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sampler.engine import Request
from sampler.engines.transformers.worker import CHUNK, Worker
from tests.engines.models import tiny_engine
from tests.engines.test_batching import request

BOUND = 256 << 20


@pytest.mark.model
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("prompts", "length", "chains", "tokens", "steps"),
    [
        pytest.param(20, 500, 1, 100, 1, id="long rows"),  # 276 MB of keys and values, and as much again to be kept
        pytest.param(12, 20, 4, 64, 4, id="prefixes that come and go beside rows that stay"),
    ],
)
def test_the_process_grows_by_the_bound_and_little_more(
    prompts: int, length: int, chains: int, tokens: int, steps: int
) -> None:
    words = map(str, (BOUND, prompts, length, chains, tokens, steps))
    command = [sys.executable, "-m", "tests.engines.memory_probe", *words]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    rise = json.loads(ended.stdout)["rise"]
    print(f"\nrise {rise / 1e6:.0f} MB under a bound of {BOUND / 1e6:.0f} MB")
    assert BOUND // 2 < rise < BOUND + (64 << 20)


def prompted(number: int) -> Request:
    """A request with a long prompt of its own."""
    return replace(request(number, 1, 20), ids=tuple((7 * i + number) % 250 for i in range(4 * CHUNK + 8 * number)))


def test_rows_prefixes_and_the_prompt_being_computed_share_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine()
    bound = 2000 * engine.worker.model.cache.token_bytes
    engine.worker.close()
    held: list[int] = []
    turn = Worker._turn

    def watched(self: Worker) -> None:
        turn(self)
        batch = self.batch
        held.append(batch.prefixes.bytes + batch.model.cache.buffer_bytes + self._staging.buffer_bytes)

    monkeypatch.setattr(Worker, "_turn", watched)
    engine = tiny_engine(kv_cache_bytes=bound)

    async def together() -> None:
        await asyncio.gather(*[engine.propose(prompted(n)) for n in range(9)])

    asyncio.run(together())
    engine.worker.close()
    assert max(held) > bound // 2
    assert max(held) <= bound
