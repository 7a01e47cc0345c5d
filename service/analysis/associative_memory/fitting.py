"""One instance in detail: the map of largest margin beside the Hebbian one."""

import numpy as np
from numpy.typing import NDArray

from service.analysis.associative_memory.capacity import Memory
from service.analysis.associative_memory.given import contradict
from service.analysis.associative_memory.instances import Facts, Matrix, Shared
from service.analysis.associative_memory.margins import predict_margin
from service.analysis.associative_memory.mechanism import (
    Scores,
    at_margin,
    correlation,
    participation,
    quarter_circle_distance,
    score,
    softmax_recall,
    spectrum,
)
from service.analysis.associative_memory.schema import (
    AssociativeMemoryRequest,
    FitReply,
    MapReply,
    SoftmaxRecall,
    Spread,
)
from service.analysis.associative_memory.solver import (
    Solution,
    find,
    find_factored,
    hebbian,
    normalised_margin,
    scaled,
    widen,
)
from service.analysis.frame import AnalysisError, Context

ITERATIONS, TOLERANCE = 3000, 1e-7
PENALTIES = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
TEMPERATURES = [1.0, 0.25, 0.1, 0.05]
SHOWN_FACTS = 500
MARGIN_SAMPLES, MARGIN_SIZE_LIMIT = 500, 6000
"""Draws of the predicted margin, and the most targets × output dimension for which it is predicted."""


def fit(request: AssociativeMemoryRequest, facts: Facts, sizes: Memory, context: Context) -> FitReply:
    """Find the best map, or judge the one given, and describe how it stores the facts."""
    context.report(0.1, "feasibility")
    solution = solve(request, facts, sizes, context)
    margin = normalised_margin(facts, solution.weights)
    if solution.status == "feasible" and margin < (request.margin or 0.0):
        solution = Solution("undecided", solution.weights)
    temperatures = request.temperatures or TEMPERATURES
    own = facts.targets if isinstance(facts, Shared) else facts.own
    context.report(0.9, "description")
    return FitReply(
        status=solution.status,
        certificate_residual=solution.residual,
        predicted_margin=_predicted(facts, sizes, context),
        solution=describe(facts, solution.weights, temperatures),
        hebbian=describe(facts, scaled(hebbian(facts)), temperatures),
        input_participation=participation(facts.inputs),
        target_participation=participation(own),
        weights=solution.weights.tolist() if request.return_weights else None,
    )


def solve(request: AssociativeMemoryRequest, facts: Facts, sizes: Memory, context: Context) -> Solution:
    """The map given, the factored search's, or the one of largest margin."""
    if request.weights is not None:
        return _judged(facts, _given_weights(request, sizes))
    iterations = request.max_iter or ITERATIONS
    if isinstance(facts, Shared) and contradict(facts):
        return Solution("infeasible", scaled(hebbian(facts)), 0.0)
    if sizes.hidden_dim < min(sizes.input_dim, sizes.output_dim):
        return find_factored(facts, sizes.hidden_dim, iterations, context.rng)
    found = find(facts, iterations, request.tolerance or TOLERANCE)
    if found.status != "feasible":
        return found
    wide = widen(
        facts,
        found.weights,
        PENALTIES,
        iterations,
        lambda fraction: context.report(0.2 + 0.7 * fraction, "largest margin"),
    )
    better = normalised_margin(facts, wide) >= normalised_margin(facts, found.weights)
    return Solution("feasible", wide if better else found.weights)


def _given_weights(request: AssociativeMemoryRequest, sizes: Memory) -> Matrix:
    weights = np.array(request.weights, dtype=float) if _even(request.weights) else np.zeros((0, 0))
    if weights.shape != (sizes.output_dim, sizes.input_dim):
        raise AnalysisError("weights", f"must have {sizes.output_dim} rows of {sizes.input_dim} entries")
    if not weights.any():
        raise AnalysisError("weights", "are all zero")
    return weights


def _even(rows: list[list[float]] | None) -> bool:
    return rows is not None and len({len(row) for row in rows}) == 1


def _judged(facts: Facts, weights: Matrix) -> Solution:
    recalls_all = float(facts.gaps(facts.inputs @ weights.T).min()) > 0
    return Solution("feasible" if recalls_all else "undecided", weights)


def _predicted(facts: Facts, sizes: Memory, context: Context) -> float | None:
    targets = facts.competitors + 1
    full = sizes.hidden_dim >= min(sizes.input_dim, sizes.output_dim)
    if not full or targets * sizes.output_dim > MARGIN_SIZE_LIMIT:
        return None
    rng = np.random.default_rng([0 if context.seed is None else context.seed, 2])
    return predict_margin(len(facts.inputs), targets, sizes.input_dim, sizes.output_dim, MARGIN_SAMPLES, rng)


def describe(facts: Facts, weights: Matrix, temperatures: list[float]) -> MapReply:
    """How a map stores the facts."""
    scores = score(facts, weights)
    values = spectrum(weights)
    near, active = at_margin(scores) if scores.recall == 1 else (None, None)
    return MapReply(
        normalized_margin=normalised_margin(facts, weights),
        recall_top1=scores.recall,
        target_scores=_spread(scores.target),
        threshold_scores=_spread(scores.threshold),
        gaps=_spread(scores.target - scores.threshold),
        target_threshold_correlation=correlation(scores),
        fraction_at_margin=near,
        active_constraints_per_fact=active,
        singular_values=values.tolist(),
        quarter_circle_ks=quarter_circle_distance(values),
        softmax_recall=[
            SoftmaxRecall(temperature=one, mean_probability=softmax_recall(scores, one)) for one in temperatures
        ],
        scores=_pairs(scores),
    )


def _spread(values: NDArray[np.float64]) -> Spread:
    return Spread(mean=float(values.mean()), sd=float(values.std()), min=float(values.min()))


def _pairs(scores: Scores) -> list[list[float]]:
    return np.column_stack([scores.target, scores.threshold])[:SHOWN_FACTS].tolist()
