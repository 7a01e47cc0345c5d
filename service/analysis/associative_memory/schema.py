"""What `associative-memory` takes and gives."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.analysis.frame import AnalysisResponse, ReplyPart, SeededRequest

SOLVED_DIMENSION_LIMIT = 128
SHARED_LIMIT = 4_000_000
"""Facts × targets."""
DECOUPLED_LIMIT = 30_000_000
"""Facts × targets × output dimension."""

Dimension = Annotated[int | None, Field(ge=2, le=65_536)]
Count = Annotated[int | None, Field(ge=2, le=1_000_000)]
Entry = Annotated[float, Field(ge=-1e6, le=1e6)]
Row = Annotated[list[Entry], Field(min_length=2, max_length=SOLVED_DIMENSION_LIMIT, fail_fast=True)]
Rows = Annotated[list[Row] | None, Field(min_length=2, max_length=4096, fail_fast=True)]

ALWAYS = {"mode", "seed"}
SIZES = {"input_dim", "output_dim", "num_facts", "num_targets", "hidden_dim"}
SOLVER = {"model", "max_iter", "tolerance"}
GIVEN = {"inputs", "targets", "labels", "weights"}
USED = {
    "theory": ALWAYS | SIZES | {"margin", "mc_samples"},
    "simulate": ALWAYS | SIZES | SOLVER | {"trials", "mc_samples"},
    "fit": ALWAYS | SIZES | SOLVER | GIVEN | {"margin", "mc_samples", "temperatures", "return_weights"},
}
"""Fields that a mode honours; others are refused."""


class AssociativeMemoryRequest(SeededRequest):
    """A linear map W that is to recall facts: a prediction, simulated instances, or one instance in detail."""

    mode: Literal["theory", "simulate", "fit"] = "theory"
    """a prediction for any sizes, drawn instances, or one instance in detail"""
    input_dim: Annotated[Dimension, Field(description="16 if left out")] = None
    output_dim: Annotated[Dimension, Field(description="input_dim if left out")] = None
    num_facts: Annotated[Count, Field(description="95 % of the predicted capacity if left out")] = None
    num_targets: Annotated[Count, Field(description="one a fact if left out")] = None
    hidden_dim: Annotated[int | None, Field(ge=1, le=65_536, description="most rank of W; full if left out")] = None
    margin: Annotated[float | None, Field(ge=0, le=4, description="least gap/(‖W‖ σ_x σ_y); 0 if left out")] = None
    model: Annotated[Literal["shared", "decoupled"] | None, Field(description="shared if left out")] = None
    trials: Annotated[int | None, Field(ge=1, le=1000, description="20 if left out")] = None
    mc_samples: Annotated[int | None, Field(ge=100, le=200_000, description="20 000 if left out")] = None
    max_iter: Annotated[int | None, Field(ge=10, le=20_000, description="3000 if left out")] = None
    tolerance: Annotated[float | None, Field(ge=1e-12, le=1e-3, description="1e-7 if left out")] = None
    inputs: Annotated[Rows, Field(description="one row a fact; drawn if left out")] = None
    targets: Rows = None
    """one row a target; goes with inputs"""
    labels: Annotated[
        list[Annotated[int, Field(ge=0, lt=4096)]] | None,
        Field(
            min_length=2,
            max_length=4096,
            fail_fast=True,
            description="row of targets of each fact; in order if left out",
        ),
    ] = None
    weights: Annotated[Rows, Field(description="d_out × d_in: judge this map instead of solving")] = None
    temperatures: Annotated[
        list[Annotated[float, Field(ge=1e-3, le=1e3)]] | None,
        Field(
            min_length=1, max_length=20, fail_fast=True, description="of softmax recall; 1, 0.25, 0.1, 0.05 if left out"
        ),
    ] = None
    return_weights: bool | None = None
    """also return the map that was found"""

    @model_validator(mode="after")
    def _every_field_is_used(self) -> Self:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        unused = sorted(given - USED[self.mode])
        if unused:
            raise ValueError(f"{unused[0]} is not used with mode: {self.mode}")
        if (self.inputs is None) != (self.targets is None):
            raise ValueError("inputs and targets go together")
        if self.inputs is None and self.labels is not None:
            raise ValueError("labels go with inputs and targets")
        if self.inputs is not None and (sizes := sorted(given & SIZES - {"hidden_dim"})):
            raise ValueError(f"{sizes[0]} follows from inputs and targets; leave it out")
        if self.inputs is not None and self.model == "decoupled":
            raise ValueError("model: decoupled draws its competitors; it goes without inputs")
        return self


class CapacityReply(ReplyPart):
    """The prediction for isotropic Gaussian facts, derived."""

    capacity: Annotated[float, Field(description="p_c: facts at which half of the instances are feasible")]
    load: Annotated[float | None, Field(description="num_facts/capacity")]
    expected_sq_distance: float
    capacity_constant: Annotated[float, Field(description="p_c log K/(d_in d_out), at these sizes")]
    asymptotic_constant: Annotated[float, Field(description="of the limit of large d; reached very slowly")]
    rank_factor: float
    hebbian_constant: Annotated[float, Field(description="of the limit, for the Hebbian map recalling all facts")]
    method: Literal["pooling_mc", "mean_field", "finite_dimension"]
    std_error: Annotated[float, Field(description="of the capacity, from its Monte Carlo draws")]


class SimulationReply(ReplyPart):
    """Shares over drawn instances."""

    trials: int
    num_facts: int
    feasible_fraction: float
    infeasible_fraction: float
    undecided_fraction: float
    max_certificate_residual: float | None
    hebbian_fraction: Annotated[float, Field(description="instances in which the Hebbian map recalls every fact")]
    hebbian_recall: Annotated[float, Field(description="facts that it recalls, mean over instances")]


class Spread(ReplyPart):
    """Of a quantity over facts."""

    mean: float
    sd: float
    min: float


class SoftmaxRecall(ReplyPart):
    """Mean probability of the right target when scores are sampled at a temperature."""

    temperature: float
    mean_probability: float


class MapReply(ReplyPart):
    """How one map stores the facts; scores in units of ‖W x‖ σ_y."""

    normalized_margin: float
    recall_top1: float
    target_scores: Spread
    threshold_scores: Spread
    gaps: Spread
    target_threshold_correlation: float | None
    fraction_at_margin: Annotated[float | None, Field(description="null unless every fact is recalled")]
    active_constraints_per_fact: float | None
    singular_values: list[float]
    quarter_circle_ks: float
    softmax_recall: list[SoftmaxRecall]
    scores: Annotated[list[list[float]], Field(description="(own score, threshold) of the first 500 facts")]


class FitReply(ReplyPart):
    """One instance in detail."""

    status: Annotated[
        Literal["feasible", "infeasible", "undecided"],
        Field(description="feasible: the map recalls every fact with the margin asked for; infeasible: no map does"),
    ]
    certificate_residual: float | None
    predicted_margin: Annotated[float | None, Field(description="for isotropic Gaussian facts; null where unknown")]
    solution: MapReply
    hebbian: MapReply
    input_participation: Annotated[float, Field(description="directions that the inputs fill")]
    target_participation: float
    weights: list[list[float]] | None


class AssociativeMemoryReply(AnalysisResponse):
    """The prediction always; the mode's own part beside it."""

    derived: Annotated[bool, Field(description="formulas derived here, checked by simulation; not the paper's wording")]
    theory: Annotated[CapacityReply | None, Field(description="null where a margin leaves no capacity")]
    simulation: SimulationReply | None
    fit: FitReply | None
