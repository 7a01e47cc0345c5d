"""What `optimizer-convergence` takes and gives."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.analysis.frame import AnalysisRequest, AnalysisResponse, ReplyPart, SeededRequest
from service.analysis.optimizer_convergence.schedules import STEPS_LIMIT, ExplicitSchedule, PowerSchedule, Schedule

DIMENSION_LIMIT = 32
PIECES_LIMIT = 500
ENTRIES_LIMIT = 50_000
"""Numbers in a caller's matrices, together."""
MATRIX_STEPS_LIMIT = 20_000
"""Steps with matrices of the caller's, or with an approximate polar factor: each is a decomposition."""

Entry = Annotated[float, Field(ge=-1e6, le=1e6)]
Matrix = Annotated[
    list[Annotated[list[Entry], Field(min_length=1, max_length=DIMENSION_LIMIT, fail_fast=True)]],
    Field(min_length=1, max_length=DIMENSION_LIMIT, fail_fast=True),
]
Matrices = Annotated[list[Matrix], Field(min_length=1, max_length=PIECES_LIMIT, fail_fast=True)]
Offsets = Annotated[list[Entry], Field(min_length=1, max_length=PIECES_LIMIT, fail_fast=True)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class DiagonalAbsRequest(AnalysisRequest):
    """The paper's counterexample, c |W₁₁ + W₂₂| + |W₁₁ − W₂₂|."""

    type: Literal["diagonal_abs"]
    c: Annotated[float | None, Field(gt=0, lt=1, description="(1−β)/(2(1+β)) if left out")] = None
    trace: Annotated[float | None, Field(gt=0, le=1e6, description="of an adversarial start; 2 if left out")] = None
    initial: Literal["adversarial", "random"] | Matrix = "adversarial"
    """the start matrix, or one that the schedule cannot leave"""

    @model_validator(mode="after")
    def _trace_belongs_to_adversarial(self) -> Self:
        if self.trace is not None and self.initial != "adversarial":
            raise ValueError("trace goes with initial: adversarial only; another start has its own")
        if isinstance(self.initial, list) and [len(row) for row in self.initial] != [2, 2]:
            raise ValueError("initial must be a 2×2 matrix")
        return self


class GivenMatrices(AnalysisRequest):
    """N matrices A of one shape, and N numbers b."""

    A: Matrices
    """matrices A_i of one shape"""
    b: Offsets
    """a number b_i for each matrix"""
    initial: Annotated[Matrix | None, Field(description="zero if left out")] = None

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        shapes = {(len(matrix), *{len(row) for row in matrix}) for matrix in self.A}
        shapes |= set() if self.initial is None else {(len(self.initial), *{len(row) for row in self.initial})}
        if len(shapes) > 1 or len(next(iter(shapes))) != 2:
            raise ValueError("A must hold matrices of one shape, which initial has too")
        if len(self.b) != len(self.A):
            raise ValueError(f"b has {len(self.b)} numbers for {len(self.A)} matrices in A")
        rows, columns = next(iter(shapes))
        if rows * columns * len(self.A) > ENTRIES_LIMIT:
            raise ValueError(f"A holds more than {ENTRIES_LIMIT} numbers")
        if not any(entry for matrix in self.A for row in matrix for entry in row):
            raise ValueError("A is zero")
        return self


class L1RegressionRequest(GivenMatrices):
    """Mean over i of |⟨A_i, W⟩ − b_i|."""

    type: Literal["l1_regression"]


class MaxAffineRequest(GivenMatrices):
    """Max over i of ⟨A_i, W⟩ + b_i."""

    type: Literal["max_affine"]


class Orthogonalization(AnalysisRequest):
    """How the spectral norm's direction is computed."""

    method: Literal["svd", "newton_schulz"] = "svd"
    ns_steps: Annotated[int | None, Field(ge=1, le=99, description="5 if left out")] = None
    ns_coefficients: Annotated[
        list[Annotated[float, Field(ge=-100, le=100)]] | None,
        Field(min_length=3, max_length=3, fail_fast=True, description="(3.4445, −4.775, 2.0315) if left out"),
    ] = None

    @model_validator(mode="after")
    def _svd_takes_neither(self) -> Self:
        if self.method == "svd" and (self.ns_steps is not None or self.ns_coefficients is not None):
            raise ValueError("ns_steps and ns_coefficients go with method: newton_schulz only")
        return self


class ErrorFeedback(AnalysisRequest):
    """Whether to run the method with error feedback too, and its γ."""

    enabled: bool = True
    step: Literal["auto", "inverse_sqrt", "constant"] = "auto"
    gamma: Annotated[float | None, Field(ge=1e-12, le=1e6)] = None

    @model_validator(mode="after")
    def _gamma_is_used(self) -> Self:
        if self.step == "constant" and self.gamma is None:
            raise ValueError("gamma is needed with step: constant")
        if self.step == "auto" and self.gamma is not None:
            raise ValueError("gamma is chosen by step: auto; give it with constant or inverse_sqrt")
        return self


class OptimizerConvergenceRequest(SeededRequest):
    """A norm's method with momentum on a convex Lipschitz function, with and without error feedback."""

    objective: Annotated[DiagonalAbsRequest | L1RegressionRequest | MaxAffineRequest, Field(discriminator="type")] = (
        DiagonalAbsRequest(type="diagonal_abs")
    )
    """the function; the counterexample if left out"""
    norm: Literal["spectral", "sign", "column", "row", "frobenius"] = "spectral"
    """whose unit ball's extreme points are the directions; spectral is Muon"""
    momentum: Momentum = 0.9
    """β of the buffer M ← βM + (1 − β)G"""
    nesterov: Annotated[bool, Field(description="of the run without error feedback")] = False
    steps: Annotated[int, Field(ge=1, le=STEPS_LIMIT)] = 20_000
    """steps of the run"""
    schedule: Schedule = PowerSchedule(type="power")
    """the rate of each step"""
    orthogonalization: Orthogonalization = Orthogonalization()
    """exact polar factor, or Newton-Schulz"""
    error_feedback: ErrorFeedback = ErrorFeedback()
    """whether to run with error feedback too"""
    weight_decay: Annotated[float, Field(ge=0, le=0, description="0: decay pulls to this function's minimiser")] = 0.0
    max_points: Annotated[int, Field(ge=2, le=2000)] = 200
    """points of the loss in the reply"""

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if isinstance(self.schedule, ExplicitSchedule):
            if len(self.schedule.values) != self.steps:
                raise ValueError(f"schedule.values has {len(self.schedule.values)} rates for {self.steps} steps")
            if not any(self.schedule.values):
                raise ValueError("schedule.values are all 0")
        return self


class FloorReply(ReplyPart):
    """Why the loss cannot fall below `floor` without error feedback."""

    kind: Literal["no_momentum", "any_schedule", "alternating", "finite_horizon", "none"]
    floor: float | None
    c: float | None
    initial: list[list[float]]
    horizon: Annotated[int | None, Field(description="steps it holds for; null for ever, or no certificate")]
    valid_for: Literal["svd"] = "svd"


class ConvergenceRun(ReplyPart):
    """One run: `loss` holds pairs [t, f(W_t)]."""

    loss: list[tuple[int, float]]
    final: float
    min: float
    mean: float
    tail_mean: Annotated[float, Field(description="over the last half")]
    trace_drift: Annotated[float | None, Field(description="tr W_T − tr W_0 of the 2×2 function")]
    max_error_norm: float | None
    min_delta: float | None


class ConvergenceBound(ReplyPart):
    """On mean f(W_t) − optimum with error feedback and constant γ."""

    value: float
    L: float
    R: float
    delta: float
    K: float
    gamma: float
    max_error_norm: float


class OptimizerConvergenceReply(AnalysisResponse):
    """Both runs, with what is known beforehand about them."""

    certificate: FloorReply
    optimum: float
    baseline: ConvergenceRun
    error_feedback: ConvergenceRun | None
    bound: ConvergenceBound | None
    bound_satisfied: bool | None
    verdict: Literal["stalled", "decreasing", "diverging"]
    rule: str


class TorchMuonRequest(SeededRequest):
    """`torch.optim.Muon` on the counterexample, beside the exact polar factor."""

    momentum: Momentum = 0.9
    """β of the buffer"""
    steps: Annotated[int, Field(ge=1, le=5000)] = 1000
    """steps of the run"""
    schedule: Schedule = PowerSchedule(type="power", exponent=1.0)
    """the rate of each step"""
    nesterov: bool = False
    """look ahead with the momentum"""
    trace: Annotated[float, Field(gt=0, le=1e6)] = 2.0
    """tr W_0 of the start"""
    max_points: Annotated[int, Field(ge=2, le=2000)] = 200
    """points of the loss in the reply"""

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.schedule.type == "polyak":
            raise ValueError("schedule must be known beforehand; polyak is not")
        if isinstance(self.schedule, ExplicitSchedule) and len(self.schedule.values) != self.steps:
            raise ValueError(f"schedule.values has {len(self.schedule.values)} rates for {self.steps} steps")
        return self


class TorchRun(ReplyPart):
    """One optimiser's run."""

    optimizer: str
    ns_coefficients: list[float] | None
    ns_steps: int | None
    singular_values: Annotated[
        list[float], Field(description="of its direction for a buffer with singular values 1 and 0.3; exact: 1 and 1")
    ]
    loss: list[tuple[int, float]]
    final: float
    trace_drift: float
    keeps_the_floor: bool


class TorchMuonReply(AnalysisResponse):
    """Runs from the same start with the same rates."""

    torch_version: str
    certificate: FloorReply
    runs: list[TorchRun]
