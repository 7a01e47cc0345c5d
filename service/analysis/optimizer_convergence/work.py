"""Computes and draws `optimizer-convergence`."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from service.analysis.frame import AnalysisError, Context, Notice
from service.analysis.optimizer_convergence.bound import Bound
from service.analysis.optimizer_convergence.certificates import Floor
from service.analysis.optimizer_convergence.descent import Run
from service.analysis.optimizer_convergence.norms import Matrix
from service.analysis.optimizer_convergence.objectives import DiagonalAbs, Objective
from service.analysis.optimizer_convergence.problem import Problem
from service.analysis.optimizer_convergence.schema import (
    ConvergenceBound,
    ConvergenceRun,
    FloorReply,
    OptimizerConvergenceReply,
    OptimizerConvergenceRequest,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOLERANCE = 1e-9
Verdict = Literal["stalled", "decreasing", "diverging"]


def compute(request: OptimizerConvergenceRequest, context: Context) -> OptimizerConvergenceReply:
    """Run the method, and run it with error feedback.

    Raises:
        AnalysisError: The certificate's conditions on c fail, the function has no minimum, or a diverging run left
            the range of float64.
    """
    problem = Problem(request, context)
    baseline = _finite(problem.run(context), "schedule")
    feedback, limit = None, None
    if request.error_feedback.enabled:
        context.report(0.5, "with error feedback")
        gammas = problem.gammas()
        feedback = _finite(problem.feed_back(gammas, context), "error_feedback.gamma")
        limit = problem.bound(float(gammas[0]))
    verdict, rule = judge(problem, baseline)
    certificate = describe_floor(problem.floor, problem.start)
    return OptimizerConvergenceReply(
        method=_method(request),
        seed=context.seed,
        warnings=notices(problem, feedback, limit),
        certificate=certificate,
        optimum=problem.objective.optimum,
        baseline=summarise(baseline, problem.start, request.max_points),
        error_feedback=None if feedback is None else summarise(feedback, problem.start, request.max_points),
        bound=None if limit is None else _bound_reply(limit),
        bound_satisfied=None if limit is None or feedback is None else _is_within(feedback, limit, problem.objective),
        verdict=verdict,
        rule=rule,
    )


def _finite(run: Run, field: str) -> Run:
    if not (np.isfinite(run.losses).all() and np.isfinite(run.last).all()):
        raise AnalysisError(field, "the loss left the range of double precision; take smaller steps")
    return run


def _method(request: OptimizerConvergenceRequest) -> str:
    direction = "exact" if request.orthogonalization.method == "svd" else "Newton-Schulz"
    return f"{request.norm}-norm subgradient method with momentum {request.momentum:g}, {direction} directions"


def _is_within(feedback: Run, limit: Bound, objective: Objective) -> bool:
    return bool(feedback.losses[:-1].mean() - objective.optimum <= limit.value + TOLERANCE)


def judge(problem: Problem, baseline: Run) -> tuple[Verdict, str]:
    """The verdict on the run without error feedback, and the rule that gave it."""
    losses = baseline.losses
    if problem.floor is not None and problem.is_exact and losses.min() >= problem.floor.value - TOLERANCE:
        return "stalled", "a certificate is present and no loss is below its floor"
    if losses[len(losses) // 2 :].mean() > 2 * losses[0] > 0:
        return "diverging", "the mean loss of the last half is above twice the first loss"
    return "decreasing", "neither stalled nor diverging"


def describe_floor(floor: Floor | None, start: Matrix) -> FloorReply:
    """The certificate as replied."""
    initial = start.tolist()
    if floor is None:
        return FloorReply(kind="none", floor=None, c=None, initial=initial, horizon=None)
    return FloorReply.model_validate(
        {"kind": floor.kind, "floor": floor.value, "c": floor.c, "initial": initial, "horizon": floor.horizon}
    )


def summarise(run: Run, start: Matrix, max_points: int) -> ConvergenceRun:
    """A run's figures, its losses thinned geometrically."""
    losses = run.losses
    drift = float(np.trace(run.last) - np.trace(start)) if start.shape == (2, 2) else None
    return ConvergenceRun(
        loss=thin(losses, max_points),
        final=float(losses[-1]),
        min=float(losses.min()),
        mean=float(losses[:-1].mean()),
        tail_mean=float(losses[len(losses) // 2 :].mean()),
        trace_drift=drift,
        max_error_norm=run.largest_error,
        min_delta=run.least_delta,
    )


def thin(losses: NDArray[np.float64], max_points: int) -> list[tuple[int, float]]:
    """At most `max_points` pairs (t, loss), the first and the last among them, even on a logarithmic axis."""
    chosen = np.unique(np.rint(np.geomspace(1, len(losses), max_points)).astype(int)) - 1
    return [(int(step), float(losses[step])) for step in chosen]


def _bound_reply(limit: Bound) -> ConvergenceBound:
    return ConvergenceBound(
        value=limit.value,
        L=limit.lipschitz,
        R=limit.distance,
        delta=limit.delta,
        K=limit.k,
        gamma=limit.gamma,
        max_error_norm=limit.error_norm,
    )


def notices(problem: Problem, feedback: Run | None, limit: Bound | None) -> list[Notice]:
    """What the reader must know."""
    found = []
    if problem.floor is not None:
        text = "a worst case: other starts and functions need not stall, and the floor says nothing of training"
        found.append(Notice(code="worst_case_only", message=text))
        if problem.floor.kind == "finite_horizon":
            text = "irregular rates: the floor holds for these steps only, and is small"
            found.append(Notice(code="finite_horizon_floor", message=text))
    elif isinstance(problem.objective, DiagonalAbs):
        found.append(Notice(code="no_certificate", message="no floor is known for this start, schedule and norm"))
    if not problem.is_exact:
        text = "newton_schulz voids the certificate and the bound: unequal singular values stay unequal"
        found.append(Notice(code="inexact_directions", message=text))
    elif feedback is not None and limit is None:
        found.append(Notice(code="no_bound", message="the bound is for constant γ; this γ falls"))
    return found


def draw(request: OptimizerConvergenceRequest, response: OptimizerConvergenceReply) -> "Figure":
    """Loss above the optimum against steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    curves = [("without error feedback", response.baseline), ("with error feedback", response.error_feedback)]
    for label, run in curves:
        if run is not None:
            steps = [step + 1 for step, _ in run.loss]
            axes.plot(steps, [max(loss - response.optimum, 1e-16) for _, loss in run.loss], label=label)
    if response.certificate.floor is not None:
        axes.axhline(response.certificate.floor, color="black", linestyle="--", label="certified floor")
    if response.bound is not None:
        axes.axhline(response.bound.value, color="grey", linestyle=":", label="bound on the mean, with error feedback")
    axes.set(xscale="log", yscale="log", xlabel="step + 1", ylabel="loss − optimum", title=response.method)
    axes.legend()
    return figure
