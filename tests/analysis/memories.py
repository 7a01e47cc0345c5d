"""What the tests of associative memories share."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from service.analysis.associative_memory import ASSOCIATIVE_MEMORY
from service.analysis.associative_memory.capacity import Memory, predict
from service.analysis.associative_memory.instances import Facts, draw_decoupled, draw_shared
from service.analysis.associative_memory.mechanism import score
from service.analysis.associative_memory.schema import AssociativeMemoryReply, FitReply, SimulationReply
from service.analysis.associative_memory.solver import find, hebbian
from service.analysis.associative_memory.work import compute
from service.analysis.frame import Context


def analyse(body: dict[str, Any], seed: int = 0) -> AssociativeMemoryReply:
    request = ASSOCIATIVE_MEMORY.request.model_validate_json(json.dumps(body))
    return compute(request, Context(seed))


def simulate(seed: int = 0, **body: Any) -> SimulationReply:
    found = analyse({"mode": "simulate", "mc_samples": 100} | body, seed).simulation
    assert found is not None
    return found


def fit(seed: int = 0, **body: Any) -> FitReply:
    found = analyse({"mode": "fit", "mc_samples": 100} | body, seed).fit
    assert found is not None
    return found


def predicted(rows: int, columns: int | None = None, targets: int | None = None, hidden: int | None = None) -> float:
    """p_c for d_in = rows and d_out = columns."""
    columns = columns or rows
    memory = Memory(rows, columns, hidden or min(rows, columns), targets, 0.0)
    return predict(memory, 40_000, np.random.SeedSequence(7)).facts


def instance(model: str, facts: int, dimension: int, rng: np.random.Generator) -> Facts:
    if model == "decoupled":
        return draw_decoupled(facts, facts, dimension, dimension, rng)
    return draw_shared(facts, facts, dimension, dimension, rng, identity=True)


def median_capacity(feasible: Callable[[int], float], points: list[int], trials: int) -> float:
    """p50 by Spearman and Kärber: the sum of shares over equally spaced points that span the fall from 1 to 0."""
    step = points[1] - points[0]
    shares = [sum(feasible(point) for _ in range(trials)) / trials for point in points]
    return points[0] - step / 2 + step * sum(shares)


def half_feasible(model: str, dimension: int, points: list[int], trials: int, seed: int) -> float:
    """p50 of the best map; at d > 32 a search may end undecided next to the threshold, and then counts as half."""
    rng = np.random.default_rng(seed)
    statuses: list[str] = []

    def feasible(facts: int) -> float:
        statuses.append(find(instance(model, facts, dimension, rng), 3000, 1e-7).status)
        return {"feasible": 1.0, "undecided": 0.5, "infeasible": 0.0}[statuses[-1]]

    found = median_capacity(feasible, points, trials)
    assert statuses.count("undecided") <= (0.1 * len(statuses) if dimension > 32 else 0)
    return found


def half_hebbian(model: str, dimension: int, points: list[int], trials: int, seed: int) -> float:
    """p50 of the Hebbian map, all facts recalled."""
    rng = np.random.default_rng(seed)

    def recalls(facts: int) -> bool:
        drawn = instance(model, facts, dimension, rng)
        return score(drawn, hebbian(drawn)).recall == 1.0

    return median_capacity(recalls, points, trials)
