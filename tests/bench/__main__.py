"""`python -m tests.bench`: the speed figures of the transformers engine, to a JSON file and a table.

Every figure is a ratio of two things run in turn in this process. Settings: SmolLM2-135M in bf16, α = 4, the entropy
cut, 256 new tokens, 4 blocks, 10 steps a block.
"""

import argparse
import asyncio
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sampler.engine import EngineOptions, load_engine
from sampler.engines.transformers.engine import TransformersEngine
from sampler.params import PowerParams
from tests.bench.chains import ReferenceWay, decode_rate, generate_rate, run_chains, variants
from tests.bench.measure import Ratio, in_turn, report
from tests.engines.test_same_tokens import LONG_PROMPTS

PARAMS = PowerParams(256, alpha=4.0, blocks=4, steps_per_block=10)
FIGURES: dict[str, Callable[["Bench"], list[Ratio]]] = {}


class Bench:
    """One loaded engine and the options of this run."""

    def __init__(self, engine: TransformersEngine, rounds: int, prompts: int, max_tokens: int) -> None:
        self.engine, self.rounds = engine, rounds
        self.params = replace(PARAMS, max_tokens=max_tokens)
        self.prompts = [tuple(engine.tokenizer.encode(text)) for text in LONG_PROMPTS[:prompts]]
        self.reference = ReferenceWay(engine, self.params)


def figure(work: Callable[[Bench], list[Ratio]]) -> Callable[[Bench], list[Ratio]]:
    """Register a figure under its function's name."""
    FIGURES[work.__name__] = work
    return work


@figure
def decode(bench: Bench) -> list[Ratio]:
    """Tokens per second with all statistics ÷ `generate()` with none."""
    found: list[Ratio] = []
    for batch in (1, 8, 32):
        decode_rate(bench.engine, batch, 8, 0)  # warm up
        found.append(
            in_turn(
                f"decode tokens/s, batch {batch} ÷ generate()",
                lambda number, batch=batch: decode_rate(bench.engine, batch, 64, number),
                lambda number, batch=batch: generate_rate(bench.reference, batch, 64),
                bench.rounds,
                "≥ 1.0",
            )
        )
    return found


@figure
def steps_1(bench: Bench) -> list[Ratio]:
    """Metropolis–Hastings steps per second of one chain ÷ the reference way."""
    return [steps_ratio(bench, 1, "≥ 2.5")]


@figure
def steps_8(bench: Bench) -> list[Ratio]:
    """The same for eight chains together; the reference way runs one proposal after another."""
    return [steps_ratio(bench, 8, "≥ 8")]


@figure
def steps_32(bench: Bench) -> list[Ratio]:
    """The same for 32 chains together."""
    return [steps_ratio(bench, 32, "≥ 12")]


def steps_ratio(bench: Bench, chains: int, wanted: str) -> Ratio:
    """Both on the same prompts and seeds; the reference on proposals that the plain chains make on them."""
    plain = replace(
        bench.params, early_rejection=False, prefetch=False
    )  # the plain chains' proposals, found in less time
    schedules = list(zip(bench.prompts[:8], *run_chains(bench.engine, bench.prompts[:8], plain, 100), strict=True))

    def ours(number: int) -> float:
        prompts = [bench.prompts[(number + i) % 8] for i in range(chains)]
        start = time.perf_counter()
        answers, _ = run_chains(bench.engine, prompts, replace(bench.params, prefetch=chains == 1), 100)
        return sum(a.usage.steps for a in answers) / (time.perf_counter() - start)

    def theirs(number: int) -> float:
        chosen = [schedules[number % 8]] * 8 if chains == 1 else schedules
        return bench.reference.steps_per_second(chosen, number)

    plural = "s" if chains > 1 else ""
    return in_turn(f"MH steps/s, {chains} chain{plural} ÷ the reference way", ours, theirs, bench.rounds, wanted)


@figure
def tokens(bench: Bench) -> list[Ratio]:
    """Tokens that the engine drew ÷ those of the plain chain with the same seed, over all prompts."""
    return token_ratios(bench, 1, {"early rejection": "≤ 0.80", "memo tree": "≤ 0.75", "both": "≤ 0.50"})


@figure
def shared_tokens(bench: Bench) -> list[Ratio]:
    """The same for eight chains of one prompt, which share its tree."""
    return token_ratios(bench, 8, {"both": "≤ 0.40"})


def token_ratios(bench: Bench, n: int, wanted: dict[str, str]) -> list[Ratio]:
    """One ratio for each saving, with `n` chains of each prompt.

    With the tree alone a chain draws just the tokens of the plain one, some of them free: that tells the plain count.
    """
    names = ["memo tree", *(name for name in wanted if name != "memo tree")]
    runs = {name: run_chains(bench.engine, bench.prompts, variants(bench.params)[name], 7, n=n)[0] for name in names}

    def by_prompt(counts: list[int]) -> list[int]:
        return [sum(counts[i : i + n]) for i in range(0, len(counts), n)]

    plain = by_prompt([a.usage.generated_tokens + a.usage.free_tokens for a in runs["memo tree"]])
    chains = "1 chain" if n == 1 else f"{n} chains of one prompt"
    return [
        token_ratio(
            f"tokens, {name} ÷ plain, {chains}, {len(plain)} prompts",
            by_prompt([a.usage.generated_tokens for a in runs[name]]),
            plain,
            limit,
        )
        for name, limit in wanted.items()
    ]


def token_ratio(name: str, ours: list[int], theirs: list[int], wanted: str) -> Ratio:
    """Totals' ratio as the figure, the prompts' ratios as its spread."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(name, sum(ours) / sum(theirs), each, wanted, {"ours": ours, "theirs": theirs})


@figure
def latency(bench: Bench) -> list[Ratio]:
    """One lone request with prefetch ÷ without: seconds, and forward passes of the model."""
    passes: list[float] = []

    def seconds(prefetch: bool, number: int) -> tuple[float, int]:
        params = replace(bench.params, max_tokens=128, prefetch=prefetch)
        before, start = bench.engine.worker.batch.forward_passes, time.perf_counter()
        run_chains(bench.engine, [bench.prompts[number % len(bench.prompts)]], params, 300 + number)
        return time.perf_counter() - start, bench.engine.worker.batch.forward_passes - before

    def both(number: int) -> float:
        (off, off_passes), (on, on_passes) = seconds(False, number), seconds(True, number)
        passes.append(on_passes / off_passes)
        return on / off

    ratios = [both(number) for number in range(bench.rounds)]
    return [
        Ratio("latency of a lone request, prefetch on ÷ off", statistics.median(ratios), ratios, "≤ 0.7", {}),
        Ratio("the same in forward passes", statistics.median(passes), passes, "≤ 0.7", {}),
    ]


@figure
def memory(bench: Bench) -> list[Ratio]:
    """Peak memory of 32 chains × 2,048 tokens ÷ (bound on keys and values + weights + 500 MB)."""
    model = bench.engine.worker.model
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
    allowed = bench.engine.worker.batch.kv_bytes + weights + 500e6
    # Long prompts take the memory that long answers would, in less time.
    prompts = [tuple((31 * i + 17 * row) % 40_000 + 100 for i in range(1800)) for row in range(32)]
    run_chains(bench.engine, prompts, replace(bench.params, max_tokens=248, blocks=1, steps_per_block=1), 5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    details = {"peak_bytes": peak, "weights": weights, "kv_bytes": bench.engine.worker.batch.kv_bytes}
    return [
        Ratio(
            "peak memory of this process ÷ (bound + weights + 500 MB)", peak / allowed, [peak / allowed], "≤ 1", details
        )
    ]


def main() -> None:
    """Run the figures asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("figures", nargs="*", help=f"any of {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--max-tokens", type=int, default=PARAMS.max_tokens, help="of the chains' answers")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (0: torch's own choice)")
    parser.add_argument("--kv-cache-bytes", type=int, default=2 << 30)
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    unknown = set(options.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no figure {sorted(unknown)[0]!r}; there are {', '.join(FIGURES)}")
    if options.threads:
        torch.set_num_threads(options.threads)
    engine = load_engine("transformers", EngineOptions(dtype=options.dtype, kv_cache_bytes=options.kv_cache_bytes))
    assert isinstance(engine, TransformersEngine)
    bench = Bench(engine, options.rounds, options.prompts, options.max_tokens)
    ratios: list[Ratio] = []
    print("| figure | median | range | wanted |\n|---|---|---|---|", flush=True)
    for name in options.figures or FIGURES:
        for ratio in FIGURES[name](bench):
            ratios.append(ratio)
            print(ratio.row(), flush=True)
    settings: dict[str, Any] = {key: str(value) for key, value in vars(options).items()}
    found = report(ratios, settings)
    options.output.write_text(json.dumps(found, indent=1))
    print(f"\n{found['machine']}\nwritten to {options.output}", file=sys.stderr)
    asyncio.run(engine.aclose())


if __name__ == "__main__":
    main()
