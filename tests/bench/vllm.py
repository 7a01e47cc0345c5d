"""`python -m tests.bench.vllm`, in the environment of `make test-vllm`: what a chain costs on vLLM beside plain vLLM.

Every figure is a ratio of two things run in turn in this process, on SmolLM2-135M in float32 with α = 4, the entropy
cut, 64 new tokens, 2 blocks, 5 steps a block. Prefetch is off: it costs tokens to save time.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sampler.engine import EngineOptions, Request, Support, load_engine
from sampler.engines.vllm import load
from sampler.engines.vllm.library import RequestOutputKind, SamplingParams
from sampler.engines.vllm.proposal import Proposal
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.rng import DrawKey
from tests.bench.measure import Ratio, in_turn, report
from tests.engines.test_same_tokens import LONG_PROMPTS

PARAMS = PowerParams(64, alpha=4.0, blocks=2, steps_per_block=5, prefetch=False)
CHAINS = (1, 8, 32)


class Counted:
    """An engine's calls counted: tokens drawn, prompt positions computed, seconds in our own Python."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.drawn, self.prefilled, self.glue_s = engine, 0, 0, 0.0
        self._propose = engine.propose
        engine.propose = self._counting
        for name in ("_take", "_end"):
            setattr(Proposal, name, self._timed(getattr(Proposal, name)))

    async def _counting(self, request: Any) -> Any:
        segment = await self._propose(request)
        self.drawn += len(segment.tokens)
        self.prefilled += len(request.ids) - segment.prefix_reused
        return segment

    def _timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                self.glue_s += time.perf_counter() - start

        return timed


def run_chains(engine: Any, chains: int, seed: int) -> None:
    """So many chains at once, on prompts in turn."""

    async def together() -> None:
        prompts = [tuple(engine.tokenizer.encode(text)) for text in LONG_PROMPTS]
        jobs = [Job(engine, prompts[i % len(prompts)], PARAMS, seed, i, affinity=str(i)) for i in range(chains)]
        await asyncio.gather(*[METHODS["entropy_cut"](job) for job in jobs])

    asyncio.run(together())


def plain_rate(engine: Any, batch: int) -> float:
    """Tokens per second of vLLM's own generation: the same engine, no log-probabilities, nothing looked at."""
    params = SamplingParams(  # no seed: vLLM then draws for all rows at once
        temperature=0.25,
        top_k=50,
        max_tokens=64,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    prompts = [tuple(engine.tokenizer.encode(text)) for text in LONG_PROMPTS]

    async def one(row: int) -> int:
        number, ids = engine.backend.number(), prompts[row % len(prompts)]
        async with engine.backend.stream(ids, params, number) as outputs:
            return sum([len(output.outputs[0].token_ids) async for output in outputs])

    async def together() -> int:
        return sum(await asyncio.gather(*[one(row) for row in range(batch)]))

    start = time.perf_counter()
    tokens = asyncio.run(engine.backend.call(together()))
    return tokens / (time.perf_counter() - start)


def drawing_rate(engine: Any, batch: int, seed: int) -> float:
    """Tokens per second of the engine's proposals on the same prompts, to their full length, with all statistics."""
    prompts = [tuple(engine.tokenizer.encode(text)) for text in LONG_PROMPTS]

    async def together() -> int:
        requests = [
            Request(
                prompts[row % len(prompts)],
                64,
                4.0,
                Support("top_k", top_k=50),
                DrawKey(bytes([row, seed]) * 16),
                0,
                frozenset(),
                watch=lambda tokens: None,
            )
            for row in range(batch)
        ]
        return sum([len(one.tokens) for one in await asyncio.gather(*[engine.propose(one) for one in requests])])

    start = time.perf_counter()
    tokens = asyncio.run(together())
    return tokens / (time.perf_counter() - start)


class Bench:
    """The engine, counted, and how often each figure is taken."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.engine: Any = load(EngineOptions(dtype="fp32", engine_args={"max_model_len": "1024"}))
        self.counted = Counted(self.engine)
        self.glue: list[float] = []
        run_chains(self.engine, 2, 0)

    def drawing(self, batch: int) -> Ratio:
        """Proposals to their full length ÷ plain generation: what statistics, seeds and looking cost."""
        name = f"tokens/s of {batch} full proposal{'s' if batch > 1 else ''} with statistics ÷ plain vLLM"
        return in_turn(
            name,
            lambda number: drawing_rate(self.engine, batch, number),
            lambda number: plain_rate(self.engine, batch),
            self.rounds,
            "",
        )

    def throughput(self, chains: int) -> list[Ratio]:
        """Tokens drawn per second inside chains, and positions computed per second, ÷ plain generation's tokens."""
        computed: list[float] = []

        def ours(number: int) -> float:
            counted = self.counted
            drawn, prefilled, glue = counted.drawn, counted.prefilled, counted.glue_s
            start = time.perf_counter()
            run_chains(self.engine, chains, 10 + number)
            seconds = time.perf_counter() - start
            drawn, prefilled = counted.drawn - drawn, counted.prefilled - prefilled
            computed.append((drawn + prefilled) / drawn)
            self.glue.append((counted.glue_s - glue) / drawn)
            return drawn / seconds

        name = f"tokens/s inside {chains} chain{'s' if chains > 1 else ''} ÷ plain vLLM at batch {chains}"
        plain = in_turn(name, ours, lambda number: plain_rate(self.engine, chains), self.rounds, "≥ 0.85")
        both = [ratio * factor for ratio, factor in zip(plain.ratios, computed, strict=True)]
        positions = Ratio(
            "the same, prompt positions computed again counted too", sorted(both)[len(both) // 2], both, "", {}
        )
        return [plain, positions]

    def against_transformers(self, chains: int, other: Any) -> Ratio:
        """Chains of the same parameters finished per second."""

        def rate(engine: Any, number: int) -> float:
            start = time.perf_counter()
            run_chains(engine, chains, 10 + number)
            return chains / (time.perf_counter() - start)

        name = f"{chains} chains per second, vllm ÷ transformers engine"
        return in_turn(name, lambda n: rate(self.engine, n), lambda n: rate(other, n), self.rounds, "report")


def main() -> None:
    """All figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.vllm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chains", type=int, nargs="*", default=list(CHAINS))
    parser.add_argument("--output", type=Path, default=Path("bench-vllm.json"))
    options = parser.parse_args()
    bench = Bench(options.rounds)
    found: list[Ratio] = []
    print("| figure | median | range | wanted |\n|---|---|---|---|", flush=True)

    def show(*ratios: Ratio) -> None:
        found.extend(ratios)
        for ratio in ratios:
            print(ratio.row(), flush=True)

    for chains in options.chains:
        show(bench.drawing(chains))
        show(*bench.throughput(chains))
    print(f"\nour Python: {1e6 * sorted(bench.glue)[len(bench.glue) // 2]:.0f} µs a token\n", flush=True)
    other = load_engine("transformers", EngineOptions(dtype="fp32"))
    for chains in [n for n in options.chains if n > 1]:
        show(bench.against_transformers(chains, other))
    asyncio.run(bench.engine.aclose())
    options.output.write_text(json.dumps(report(found, {"rounds": options.rounds}), indent=1))


if __name__ == "__main__":
    main()
