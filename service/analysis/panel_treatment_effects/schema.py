"""Request and reply of `panel-treatment-effects`."""

from typing import Annotated, Literal

from pydantic import Field

from service.analysis.frame import AnalysisResponse, ReplyPart, SeededRequest

MAX_CELLS = 4_000_000
MAX_SIDE = 200_000
LARGEST = 1e100

Outcome = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Arm = Annotated[int, Field(ge=0, le=1)]
Rows = Field(min_length=2, max_length=MAX_SIDE, fail_fast=True)
Row = Field(min_length=2, max_length=MAX_SIDE, fail_fast=True)
UnitId = Annotated[str, Field(min_length=1, max_length=200)]


class PanelRequest(SeededRequest):
    """A panel of n units (rows) x m times (columns), and how to estimate."""

    outcomes: Annotated[list[Annotated[list[Outcome], Row]], Rows]
    """a row a unit, a column a time"""
    treatment: Annotated[list[Annotated[list[Arm], Row]], Rows]
    """1 where treated, 0 where not; shaped like outcomes"""
    unit_ids: Annotated[list[UnitId] | None, Field(max_length=MAX_SIDE, fail_fast=True)] = None
    """names of the units, in the order of the rows"""
    rank: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = "auto"
    """of both arms; auto looks for the gap in the singular values"""
    gap_rule: Annotated[
        Literal["noise_edge", "theory"],
        Field(description="`theory` is the paper's 96*K*T, which picks rank 0 below about a million units"),
    ] = "noise_edge"
    gap_constant: Annotated[float | None, Field(ge=1e-6, le=100, description="of noise_edge: 0.5")] = None
    outcome_bound: Annotated[
        float | None, Field(ge=1e-100, le=LARGEST, description="K of theory: the largest |outcome| if left out")
    ] = None
    max_rank: Annotated[int | None, Field(ge=1, le=64, description="of auto: min(8, min(n, m)/4)")] = None
    min_row_observed: Annotated[int, Field(ge=1, le=MAX_SIDE, description="times that a unit needs in each arm")] = 5
    drop_unidentified: Annotated[
        bool, Field(description="leave units with fewer out, and say so, instead of refusing")
    ] = False
    propensity_model: Annotated[
        Literal["row", "row_column"], Field(description="`row` is the paper's; `row_column` is an extension")
    ] = "row"
    refinement: Annotated[
        Literal["none", "hard_impute"], Field(description="`none` is the paper's; `hard_impute` is an extension")
    ] = "none"
    return_matrix: bool = False
    """also return the matrix of effects"""


class UnitEffect(ReplyPart):
    """One unit.

    Attributes:
        effect: Mean effect over the times, in outcome units; null if there is no spectral gap or it is not identified.
        naive_difference_in_means: Mean treated minus mean control outcome of this unit.
        propensity: Share of times treated.
        identified: Whether it was seen often enough in both arms.
    """

    unit_id: str
    effect: float | None
    naive_difference_in_means: float | None
    propensity: float
    identified: bool


class BothArms(ReplyPart):
    """A number for each arm."""

    control: float | None
    treated: float | None


class ArmRanks(ReplyPart):
    """The rank that each arm was cut to."""

    control: int
    treated: int


class ArmValues(ReplyPart):
    """The leading singular values of each arm's inverse-propensity matrix."""

    control: list[float]
    treated: list[float]


class PanelDiagnostics(ReplyPart):
    """What the assumptions can be judged by.

    Attributes:
        min_propensity: Smallest share of times that a unit spent in an arm: q of the theory.
        column_assignment_p_value: Cochran's Q on the column totals given the row totals; small if assignment drifts.
        top_row_leverage: Largest n*||U_i||^2/r of the arms: 1 is spread evenly, n/r sits in one unit.
    """

    min_propensity: float
    column_assignment_p_value: float | None
    top_row_leverage: float | None


class PanelEffects(AnalysisResponse):
    """Effects per unit; `error_rate_scale` is the theorem's rate without its constants, not an interval."""

    unit_effects: list[UnitEffect]
    average_treatment_effect: float | None
    average_naive_difference: float | None
    selected_rank: ArmRanks
    singular_values: ArmValues
    gap_threshold: BothArms
    error_rate_scale: float
    diagnostics: PanelDiagnostics
    effect_matrix: list[list[float] | None] | None
