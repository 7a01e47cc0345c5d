"""A subspace of private rows, released under differential privacy or not at all (arXiv 2106.00001).

selection   the primitive: release the best item, or nothing       exact        rows on a subspace, over Q
noise       OpenDP's mechanisms                                    approximate  rows near a subspace
check       what is refused, by shape and parameters alone         work         one release, and its picture
"""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from service.analysis.frame import Analysis, AnalysisRequest, AnalysisResponse, Paper, ReplyPart, Seed
from service.analysis.metering import Charge, Remaining
from service.analysis.private_subspace.check import MAX_ROWS, charged

Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:/-]+$")]


def _as_list(given: Any) -> Any:
    if not isinstance(given, list):
        raise ValueError("must be a list of rows, each a list of numbers")
    return given


ROW = {"type": "array", "items": {"type": "number"}, "maxItems": 4096}
NUMBERS = {"type": "array", "items": ROW, "minItems": 2, "maxItems": MAX_ROWS}
Rows = Annotated[list[Any], BeforeValidator(_as_list), Field(max_length=MAX_ROWS), WithJsonSchema(NUMBERS)]
"""Rows as they came. Whatever is wrong with one of them makes it a zero row, for an error would tell of it."""


class Privacy(AnalysisRequest):
    """What is promised to each row."""

    epsilon: float = Field(default=1.0, ge=0.001, le=10)
    delta: float = Field(default=1e-6, ge=1e-30, lt=1, description="at most 1 / number of rows")
    neighbouring: Literal["replace_one"] = "replace_one"


class SubspaceRequest(AnalysisRequest):
    """Rows and the promise to keep."""

    data: Rows = Field(description="a row that is not `dimension` finite numbers in range counts as a zero row")
    dimension: int | None = Field(default=None, ge=2, le=4096, description="entries of a row; else the rows' length")
    subspace_dim: int = Field(ge=1, le=256)
    """k, the dimension looked for"""
    method: Literal["exact", "approximate", "gaussian_covariance"] = "exact"
    """rows on a subspace, rows very near one, or noise on second moments"""
    privacy: Privacy = Field(default_factory=Privacy)
    """what is promised to each row"""
    dataset_id: Label = Field(description="whose budget it costs: one name for one set of people, always")
    release_id: Label | None = Field(default=None, description="asked again, the same release is returned for free")
    noise_ratio: float | None = Field(default=None, gt=0, le=1, description="approximate: root of λ_{k+1}/λ_k")
    num_blocks: int | None = Field(default=None, ge=2, le=4096, description="approximate; default ⌈4B⌉ + 9")
    num_reference_points: int | None = Field(default=None, ge=1, le=4096, description="approximate; default 8k")
    selection: Literal["gap", "stable_histogram"] | None = Field(default=None, description="approximate; default gap")
    row_norm_bound: float | None = Field(
        default=None, ge=1e-30, le=1e30, description="gaussian_covariance: longer rows are shortened to it; default 1"
    )
    unsafe_debug: bool = Field(default=False, description="not private: shows scores, allows a seed, costs no budget")
    seed: Seed = Field(default=None, description="only with unsafe_debug")


class PrivacyReport(ReplyPart):
    """What the release cost each row."""

    epsilon: float
    delta: float = Field(description="with the chance that the search fails, rounded up")
    neighbouring: str
    mechanism: str
    budget_remaining: Remaining | None


class Utility(ReplyPart):
    """What is known of the basis from the parameters alone."""

    exact_if_released: bool = Field(description="it is the majority's subspace, without any rounding")
    expected_error: float | None = Field(description="sine of the largest angle, if noise_ratio is right")


class Debug(ReplyPart):
    """What a private reply never holds."""

    margin: float | None
    release_probability: float | None
    top_score: int | None


class SubspaceResponse(AnalysisResponse):
    """A basis, or the refusal of one without a reason."""

    private: bool
    released: bool
    basis: list[list[int | str | float]] | None = Field(description="[k, d]; fractions as text")
    basis_form: Literal["rref_rational", "orthonormal_float"] | None
    privacy: PrivacyReport
    utility: Utility
    release_id: str | None
    debug: Debug | None


def charge(request: SubspaceRequest) -> Charge | None:
    """What the ledger is to debit before anything is computed; None for a run that is not private."""
    epsilon, delta = charged(request)
    if request.unsafe_debug:
        return None
    # What was asked, but for the rows' values: whether a release_id fits may not depend on those.
    asked = request.model_dump_json(exclude={"data", "release_id"}) + f" {len(request.data)}"
    digest = hashlib.sha256(asked.encode()).hexdigest()
    return Charge(request.dataset_id, request.release_id, epsilon, delta, digest)


PRIVATE_SUBSPACE = Analysis(
    "private-subspace",
    Paper("Privately Learning Subspaces", "2106.00001"),
    "A low-dimensional subspace of private rows under (ε, δ)-differential privacy, or a refusal",
    SubspaceRequest,
    SubspaceResponse,
    "service.analysis.private_subspace.work",
    {
        "data": [[a, b, 3 * a - b] for a in range(1, 9) for b in range(-4, 4)],
        "subspace_dim": 2,
        "dataset_id": "example",
        "unsafe_debug": True,
        "seed": 7,
    },
    seeded=False,
    charge=charge,
)
