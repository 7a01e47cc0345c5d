"""`python -m tests.bench.evals`: what grading costs, as ratios of two things run in turn.

164 canonical HumanEval solutions, each checked in the sandbox, against 164 starts of the sandbox's interpreter with
nothing to do; as many at a time as there are cores, in turn. Needs the benchmark's file (`--data`, or the data folder).
"""

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

from evals.benchmarks import BENCHMARKS
from evals.benchmarks.humaneval import program
from evals.grading import Grading
from evals.sandbox import Program
from tests.bench.measure import Ratio, in_turn, report

BARE = ("-s", "-S", "-B", "-c", "pass")
PLAIN = ("-c", "pass")
CORES = os.cpu_count() or 1


async def checks(programs: list[Program]) -> None:
    """Check each; all must pass, or the figure is of something else."""
    async with Grading(concurrency=CORES) as grading:
        for outcome in await asyncio.gather(*map(grading.check, programs)):
            if outcome.status != "passed":
                raise SystemExit(f"a canonical solution does not pass: {outcome.detail}")


async def starts(python: str, options: tuple[str, ...], count: int) -> None:
    """Start the interpreter so many times and do nothing with it."""
    places = asyncio.Semaphore(CORES)

    async def start() -> None:
        async with places:
            process = await asyncio.create_subprocess_exec(python, *options, env={}, cwd="/")
            await process.wait()

    await asyncio.gather(*(start() for _ in range(count)))


def interpreter() -> str:
    """The one inside the sandbox."""

    async def find() -> str:
        async with Grading() as grading:
            return (await grading.sandbox.prepare()).python

    return asyncio.run(find())


def seconds(work: object) -> float:
    start = time.perf_counter()
    asyncio.run(work)  # type: ignore[arg-type]
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.evals", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=None, help="the data folder")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    problems = BENCHMARKS["humaneval"].load(options.data).problems
    programs = [program(problem, problem.question + problem.answer) for problem in problems]
    python, ratios = interpreter(), list[Ratio]()
    print("| figure | median | range | wanted |\n|---|---|---|---|", flush=True)
    for name, flags in (("bare starts of its interpreter", BARE), ("starts with site-packages", PLAIN)):
        ratio = in_turn(
            f"seconds of {len(programs)} sandboxed checks ÷ {len(programs)} {name}",
            lambda _: seconds(checks(programs)),
            lambda _, flags=flags: seconds(starts(python, flags, len(programs))),
            options.rounds,
            "about 1",
        )
        ratios.append(ratio)
        print(ratio.row(), flush=True)
    found = report(ratios, {"rounds": options.rounds, "python": python})
    options.output.write_text(json.dumps(found, indent=1))
    print(f"\n{found['machine']}\nwritten to {options.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
