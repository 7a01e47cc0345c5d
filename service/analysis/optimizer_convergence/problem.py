"""A request of `optimizer-convergence` made concrete, and its two runs."""

import numpy as np
from numpy.typing import NDArray

from service.analysis.frame import AnalysisError, Context
from service.analysis.optimizer_convergence import certificates
from service.analysis.optimizer_convergence.bound import Bound, best_gamma, bound
from service.analysis.optimizer_convergence.certificates import Floor
from service.analysis.optimizer_convergence.descent import (
    Run,
    descend,
    descend_diagonal,
    descend_with_feedback,
    feed_back_diagonal,
    listed,
    polyak,
)
from service.analysis.optimizer_convergence.norms import LMOS, RANK_TOLERANCE, Lmo, Matrix, newton_schulz_lmo
from service.analysis.optimizer_convergence.objectives import (
    DiagonalAbs,
    L1Regression,
    MaxAffine,
    Objective,
    Unbounded,
)
from service.analysis.optimizer_convergence.schedules import PolyakSchedule
from service.analysis.optimizer_convergence.schema import (
    MATRIX_STEPS_LIMIT,
    DiagonalAbsRequest,
    GivenMatrices,
    L1RegressionRequest,
    OptimizerConvergenceRequest,
)

USUAL_COEFFICIENTS = (3.4445, -4.775, 2.0315)
USUAL_STEPS = 5
SIGNED = ("spectral", "sign", "column", "row")
"""Norms whose direction of a diagonal buffer is its signs: all four give the same iterates on the counterexample."""


class Problem:
    """A request made concrete: the function, its start, its certificate, and the direction.

    Attributes:
        rates: None for an adaptive schedule.
        plain: Whether the fast loops for diagonal buffers apply.
    """

    def __init__(self, request: OptimizerConvergenceRequest, context: Context) -> None:
        self.request = request
        self.rates = None if isinstance(request.schedule, PolyakSchedule) else request.schedule.rates(request.steps)
        self.lmo: Lmo = _direction(request)
        self.floor: Floor | None = None
        if isinstance(request.objective, DiagonalAbsRequest):
            self.objective, self.start = self._counterexample(request.objective, context)
        else:
            self.objective, self.start = _given(request.objective)
        exact = request.orthogonalization.method == "svd"
        self.plain = isinstance(self.objective, DiagonalAbs) and request.norm in SIGNED and exact
        self.tolerance = RANK_TOLERANCE if request.norm == "spectral" else 0.0
        if request.steps > MATRIX_STEPS_LIMIT and not (self.plain and self.rates is not None):
            message = f"at most {MATRIX_STEPS_LIMIT} unless the 2×2 function runs with exact signs and known rates"
            raise AnalysisError("steps", message)

    def _counterexample(self, asked: DiagonalAbsRequest, context: Context) -> tuple[DiagonalAbs, Matrix]:
        momentum, nesterov = self.request.momentum, self.request.nesterov
        if asked.initial == "adversarial":
            limit = certificates.alternating_limit(momentum)
            if asked.c is not None and asked.c >= limit:
                raise AnalysisError("objective.c", f"must be below (1−β)/(1+β) = {limit:.6g} for a certificate")
            trace = 2.0 if asked.trace is None else asked.trace
            floor, diagonal, c = certificates.adversarial(asked.c, trace, self.rates, momentum, nesterov=nesterov)
            start = np.diag(diagonal)
        else:
            c = certificates.alternating_limit(momentum) / 2 if asked.c is None else asked.c
            start = context.rng.standard_normal((2, 2)) if asked.initial == "random" else np.array(asked.initial)
            diagonal = (float(start[0, 0]), float(start[1, 1]))
            floor = certificates.of_start(c, diagonal, self.rates, momentum, nesterov=nesterov)
        self.floor = floor if self.request.norm in SIGNED else None
        return DiagonalAbs(c), start

    def run(self, context: Context) -> Run:
        """Without error feedback."""
        request = self.request
        if self.plain and self.rates is not None:
            assert isinstance(self.objective, DiagonalAbs)
            momentum, nesterov = request.momentum, request.nesterov
            return descend_diagonal(self.objective, self.start, self.rates, momentum, self.tolerance, nesterov=nesterov)
        rule = listed(self.rates) if self.rates is not None else polyak(self.lmo, self.objective.optimum)
        return descend(
            self.objective,
            self.lmo,
            self.start,
            rule,
            request.steps,
            request.momentum,
            nesterov=request.nesterov,
            report=lambda fraction: context.report(0.45 * fraction, "without error feedback"),
        )

    def gammas(self) -> NDArray[np.float64]:
        """γ_t of error feedback."""
        wanted, steps = self.request.error_feedback, self.request.steps
        if wanted.step == "inverse_sqrt":
            return (wanted.gamma or 1.0) / np.sqrt(np.arange(1, steps + 1))
        gamma = wanted.gamma
        if gamma is None:
            distance = self.distance()
            if distance == 0:
                raise AnalysisError("error_feedback.step", "auto needs a start that is not the minimiser")
            rho = self.lmo.most_squares(_shape(self.start))
            gamma = best_gamma(self.objective.lipschitz, distance, rho, self.request.momentum, steps)
        return np.full(steps, gamma)

    def distance(self) -> float:
        """R."""
        return float(np.linalg.norm(self.start - self.objective.minimiser(self.start)))

    def feed_back(self, gammas: NDArray[np.float64], context: Context) -> Run:
        """With error feedback."""
        if self.plain:
            assert isinstance(self.objective, DiagonalAbs)
            return feed_back_diagonal(self.objective, self.start, gammas, self.request.momentum, self.tolerance)
        return descend_with_feedback(
            self.objective,
            self.lmo,
            self.start,
            gammas,
            self.request.momentum,
            lambda fraction: context.report(0.5 + 0.5 * fraction, "with error feedback"),
        )

    def bound(self, gamma: float) -> Bound | None:
        """For constant γ and exact directions; None otherwise."""
        if self.request.error_feedback.step == "inverse_sqrt" or not self.is_exact:
            return None
        rho = self.lmo.most_squares(_shape(self.start))
        return bound(self.objective.lipschitz, self.distance(), rho, self.request.momentum, self.request.steps, gamma)

    @property
    def is_exact(self) -> bool:
        """Whether directions are exact."""
        return self.request.orthogonalization.method == "svd"


def _shape(matrix: Matrix) -> tuple[int, int]:
    return matrix.shape[0], matrix.shape[1]


def _direction(request: OptimizerConvergenceRequest) -> Lmo:
    wanted = request.orthogonalization
    if wanted.method == "svd":
        return LMOS[request.norm]
    if request.norm != "spectral":
        raise AnalysisError("orthogonalization.method", "newton_schulz goes with norm: spectral only")
    return newton_schulz_lmo(wanted.ns_coefficients or USUAL_COEFFICIENTS, wanted.ns_steps or USUAL_STEPS)


def _given(asked: GivenMatrices) -> tuple[Objective, Matrix]:
    matrices, offsets = np.array(asked.A, dtype=float), np.array(asked.b, dtype=float)
    start = np.zeros(matrices.shape[1:]) if asked.initial is None else np.array(asked.initial, dtype=float)
    if isinstance(asked, L1RegressionRequest):
        return L1Regression(matrices, offsets), start
    try:
        return MaxAffine(matrices, offsets), start
    except Unbounded:
        message = "the function has no minimum: 0 is not a convex combination of the matrices"
        raise AnalysisError("objective.A", message) from None
