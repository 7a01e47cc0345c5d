"""`python -m tests.bench.harness`: what the evals' harness costs an answer, outside the server and the grader.

A server that answers at once, in a process of its own, is asked the same questions by the harness (records synced to
the disk) and by a bare httpx loop, in turn. Reported: wall and processor seconds an answer of both, and their ratio.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from starlette.responses import JSONResponse

from evals.records import read_records
from evals.session import carry_out
from tests.evals.running import plan
from tests.evals.servers import Scripted, completion, served


def serve(tell: Any, stop: Event) -> None:
    """The server's process: one fixed answer of 500 characters."""
    server = Scripted(otherwise=lambda body: JSONResponse(completion("a" * 500)))
    with served(server.app) as url:
        tell.put(url)
        stop.wait()


def harness(url: str, answers: int, concurrency: int) -> dict[str, float]:
    """Seconds an answer through the harness, and what the records say of them."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = plan(url, Path(folder), problems=answers, concurrency=concurrency)
        found = clocked(lambda: asyncio.run(carry_out(chosen, Console(quiet=True))), answers)
        records = read_records(Path(folder)).values()
        assert len(records) == answers
        found["recorded_harness_s"] = statistics.mean(each["timings"]["harness_s"] for each in records)
        return found


def bare(url: str, answers: int, concurrency: int) -> dict[str, float]:
    """Seconds an answer of a loop that does nothing but ask."""

    async def run() -> None:
        left = iter(range(answers))
        async with httpx.AsyncClient(base_url=url) as http:

            async def worker() -> None:
                for seed in left:
                    body = {"model": "base", "prompt": f"Question {seed}? Answer:", "seed": seed, "max_tokens": 8}
                    (await http.post("/v1/completions", json=body)).raise_for_status()

            await asyncio.gather(*(worker() for _ in range(concurrency)))

    return clocked(lambda: asyncio.run(run()), answers)


def clocked(work: Callable[[], object], answers: int) -> dict[str, float]:
    """Wall and processor seconds an answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall_s": (time.perf_counter() - wall) / answers, "cpu_s": (time.process_time() - cpu) / answers}


def main() -> None:
    """Print medians over rounds as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=8)
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    tell, stop = context.Queue(), context.Event()
    server = context.Process(target=serve, args=(tell, stop), daemon=True)
    server.start()
    url = tell.get(timeout=60)
    rounds = [
        {name: work(url, asked.answers, asked.concurrency) for name, work in (("harness", harness), ("bare", bare))}
        for _ in range(asked.rounds)
    ]
    stop.set()
    server.join()
    medians = {
        f"{name} {figure}": statistics.median(each[name][figure] for each in rounds)
        for name in ("harness", "bare")
        for figure in rounds[0][name]
    }
    ratio = statistics.median(each["harness"]["cpu_s"] / each["bare"]["cpu_s"] for each in rounds)
    print(json.dumps({**vars(asked), **medians, "cpu harness ÷ bare": ratio}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
