"""`python -m tests.bench.analysis2`: how long a person waits for learning, convergence and memory analyses.

Each route's default and a larger request, in this process, by its own processor's time so that other work on the
machine does not count; the fast loop for diagonal buffers against the loop with decompositions; and what a rational
certificate costs beside a convex-hull test by linear programming, for the same points.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linprog

from service.analysis import ANALYSES
from service.analysis.frame import Context
from service.analysis.optimizer_convergence.descent import descend, descend_diagonal, listed
from service.analysis.optimizer_convergence.norms import LMOS, RANK_TOLERANCE
from service.analysis.optimizer_convergence.objectives import DiagonalAbs
from tests.analysis.halfspaces import draw
from tests.analysis.halfspaces import run as learn_halfspace
from tests.bench.measure import Ratio, machine


def halfspace_body(dimension: int, count: int) -> dict[str, Any]:
    """A request that the service answers itself."""
    case = draw("gaussian", dimension, count, 1, 0)
    oracle = {"type": "target", "normal": case.normal.tolist(), "offset": case.offset}
    return {"concept_class": "halfspace", "positive_examples": case.training.tolist(), "oracle": oracle}


def requests() -> list[tuple[str, str, dict[str, Any]]]:
    """Route, what it is, body."""
    names = ("positive-query-learning", "optimizer-convergence", "associative-memory")
    found = [(name, "example", one.example) for name, one in ANALYSES.items() if name.split("/")[0] in names]
    found += [
        (names[0], "halfspace, d = 6, n = 1,000", halfspace_body(6, 1000)),
        (names[0], "halfspace, d = 10, n = 20,000", halfspace_body(10, 20_000)),
        (names[1], "defaults", {}),
        (names[1], "200,000 steps", {"steps": 200_000}),
        (names[2], "defaults (theory)", {}),
        (names[2], "simulate, defaults", {"mode": "simulate"}),
        (names[2], "simulate, d = 32", {"mode": "simulate", "input_dim": 32}),
        (names[2], "fit, d = 32", {"mode": "fit", "input_dim": 32}),
    ]
    return found


def seconds(name: str, body: dict[str, Any], seed: int) -> float:
    """Processor seconds of one reply."""
    analysis = ANALYSES[name]
    request = analysis.request.model_validate_json(json.dumps(body))
    work = analysis.load()
    start = time.process_time()
    work.compute(request, Context(seed if analysis.seeded else None))
    return time.process_time() - start


def rate(work: Callable[[], object], units: int) -> float:
    """Units per processor second."""
    start = time.process_time()
    work()
    return units / (time.process_time() - start)


def fast_loop(rounds: int) -> Ratio:
    """Steps per second, plain numbers ÷ matrices."""
    objective, start = DiagonalAbs(1 / 38), np.diag([1.6, 0.4])
    ratios: list[float] = []
    for number in range(rounds):
        rates = (number + 1.0) / np.arange(1, 3001)
        plain = rate(lambda rates=rates: descend_diagonal(objective, start, rates, 0.9, RANK_TOLERANCE), 3000)
        rule = listed(rates)
        full = rate(lambda rule=rule: descend(objective, LMOS["spectral"], start, rule, 3000, 0.9), 3000)
        ratios.append(plain / full)
    return Ratio("steps/s, plain numbers ÷ decompositions", statistics.median(ratios), ratios, "≥ 10", {})


def certificates(rounds: int) -> Ratio:
    """Points per second, rational certificates ÷ hull tests that prove far less."""
    case = draw("gaussian", 8, 1000, 40 * rounds, 0)
    learned = learn_halfspace(case)
    lifted = np.vstack([case.training.T, np.ones(len(case.training))])
    ratios: list[float] = []
    for number in range(rounds):
        points = case.fresh[40 * number : 40 * number + 40]
        ours = rate(lambda points=points: [learned.certifies(point) for point in points], len(points))
        theirs = rate(
            lambda points=points: [
                linprog(np.zeros(lifted.shape[1]), A_eq=lifted, b_eq=np.append(point, 1.0)) for point in points
            ],
            len(points),
        )
        ratios.append(ours / theirs)
    return Ratio("points/s, certificates ÷ hull tests, d = 8", statistics.median(ratios), ratios, "≥ 0.2", {})


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.analysis2", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("bench-analysis2.json"))
    options = parser.parse_args()
    print("| route | request | processor seconds |\n|---|---|---|", flush=True)
    waits: list[dict[str, Any]] = []
    for name, what, body in requests():
        each = [seconds(name, body, number) for number in range(options.rounds)]
        waits.append({"route": name, "request": what, "seconds": each})
        print(f"| {name} | {what} | {statistics.median(each):.2f} |", flush=True)
    ratios = [fast_loop(options.rounds), certificates(options.rounds)]
    print("\n| figure | median | range | wanted |\n|---|---|---|---|")
    for ratio in ratios:
        print(ratio.row())
    found = {"machine": machine(), "waits": waits, "ratios": [asdict(one) for one in ratios]}
    options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
