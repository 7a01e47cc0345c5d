"""`python -m tests.bench.analysis`: what the analyses cost, as ratios of two things run in turn in this process.

Per-unit effects on an n x m panel against a full singular value decomposition of one arm's matrix for each arm; the
growth from one size to the next against the growth of n·m·r; the peak memory of the process that computes; and each
route's example through a child process, so that a person knows how long to wait. Times are of this process's own
processor, so that other work on the machine does not count; the waits are by the clock.
"""

import argparse
import asyncio
import json
import resource
import statistics
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from service.analysis import ANALYSES
from service.analysis.analyst import Analyst
from service.settings import Settings
from tests.analysis.panels import Drawn, draw_panel, fit
from tests.bench.measure import Ratio, machine

RANK = 2


def effect_seconds(drawn: Drawn, number: int) -> float:
    """Processor seconds of both arms, rank unknown."""
    start = time.process_time()
    fit(drawn, seed=number)
    return time.process_time() - start


def full_seconds(drawn: Drawn) -> float:
    """Processor seconds of a full decomposition for each arm."""
    start = time.process_time()
    for mask in (drawn.treated, ~drawn.treated):
        np.linalg.svd(np.where(mask, drawn.outcomes, 0.0), full_matrices=False)
    return time.process_time() - start


def against_full(side: int, rounds: int) -> Ratio:
    """Per-unit effects ÷ full decompositions."""
    drawn = draw_panel(np.random.default_rng(0), side, side, rank=RANK)
    ours = [effect_seconds(drawn, number) for number in range(rounds)]
    theirs = [full_seconds(drawn) for _ in range(max(1, rounds // 2))]
    ratios = [one / statistics.median(theirs) for one in ours]
    details = {"ours": ours, "theirs": theirs}
    return Ratio(f"effects, {side} x {side}, ÷ full SVD", statistics.median(ratios), ratios, "≤ 0.25", details)


def growth(rounds: int) -> Ratio:
    """The slope of log time against log n·m: 1 is linear."""
    sizes = [(500, 500), (1000, 500), (1000, 1000), (2000, 1000), (2000, 2000)]
    panels = [draw_panel(np.random.default_rng(1), n, m, rank=RANK) for n, m in sizes]
    cells = np.log([n * m for n, m in sizes])
    slopes: list[float] = []
    for number in range(rounds):
        seconds = [effect_seconds(drawn, number) for drawn in panels]
        slopes.append(float(np.polyfit(cells, np.log(seconds), 1)[0]))
    return Ratio("effects, log-log slope in n·m", statistics.median(slopes), slopes, "≤ 1.3", {"sizes": sizes})


async def memory(side: int) -> Ratio:
    """Peak memory of the process that computes, from a request as JSON to its reply, ÷ 1 GB."""
    drawn = draw_panel(np.random.default_rng(2), side, side, rank=RANK)
    body = {"outcomes": drawn.outcomes.tolist(), "treatment": drawn.treated.astype(int).tolist(), "seed": 0}
    analyst = Analyst(Settings())
    await analyst.analyse("panel-treatment-effects", body)
    await analyst.aclose()
    share = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    return Ratio(f"peak memory of the process, {side} x {side}, ÷ 1 GB", share, [share], "≤ 1", {})


async def waits(rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each example: the first starts a process, the others find it warm."""
    found: dict[str, list[float]] = {}
    for name, analysis in ANALYSES.items():
        analyst = Analyst(Settings())
        found[name] = []
        for _ in range(rounds):
            start = time.perf_counter()
            await analyst.analyse(name, analysis.example)
            found[name].append(time.perf_counter() - start)
        await analyst.aclose()
    return found


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.analysis", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("bench-analysis.json"))
    options = parser.parse_args()
    ratios = [asyncio.run(memory(options.side)), against_full(options.side, options.rounds), growth(options.rounds)]
    print("| figure | median | range | wanted |\n|---|---|---|---|")
    for ratio in ratios:
        print(ratio.row())
    seconds = asyncio.run(waits(options.rounds))
    print("\n| example | first, s | then, s |\n|---|---|---|")
    for name, each in seconds.items():
        print(f"| {name} | {each[0]:.2f} | {statistics.median(each[1:]):.3f} |")
    found = {"machine": machine(), "ratios": [asdict(one) for one in ratios], "examples": seconds}
    options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
