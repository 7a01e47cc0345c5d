"""Request and reply of `memorisation-convergence`."""

from typing import Annotated, Literal

from pydantic import Field

from service.analysis.frame import AnalysisRequest, AnalysisResponse, ReplyPart, SeededRequest

MAX_DIMENSION = 2000
MAX_CELLS = 4_000_000
MAX_ROWS = 1_000_000
LARGEST = 1e50

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Vector = Annotated[list[Number], Field(min_length=2, max_length=MAX_DIMENSION, fail_fast=True)]
Matrix = Annotated[list[Vector], Field(min_length=1, max_length=MAX_ROWS, fail_fast=True)]
Load = Annotated[float, Field(ge=1e-6, le=1e6)]
Verdict = Literal["memorising", "converged_bulk_only", "converged_and_recovered", "undetermined"]
Count = Annotated[int, Field(ge=1, le=MAX_ROWS)]


class PowerLaw(AnalysisRequest):
    """Covariance eigenvalues k^(−power_law), k = 1 … dimension."""

    power_law: Annotated[float, Field(ge=0, le=10)]


class MemorisationRequest(SeededRequest):
    """One of three modes; a field that the mode does not use is refused.

    `theory` takes load_grid (or n_samples and dimension), spectrum, spikes, ridge; `samples` takes samples_a,
    samples_b, train_a, train_b, holdout, reference, latent_dim, center; `split_half` takes data, n_grid, latent_dim,
    ridge, center, n_probe, repeats.
    """

    mode: Literal["theory", "samples", "split_half"]
    """curves, samples of two models, or your own data split in halves"""
    load_grid: Annotated[
        list[Load] | None,
        Field(min_length=1, max_length=200, fail_fast=True, description="n/d: 20 values from 0.05 to 20 if left out"),
    ] = None
    n_samples: Count | None = None
    """n, in place of load_grid"""
    dimension: Annotated[int | None, Field(ge=2, le=MAX_ROWS)] = None
    """d, in place of load_grid or with a power law"""
    spectrum: (
        Literal["identity"]
        | PowerLaw
        | Annotated[
            list[Annotated[float, Field(ge=0, le=LARGEST)]],
            Field(min_length=2, max_length=MAX_DIMENSION, fail_fast=True),
        ]
    ) = "identity"
    """of the true covariance"""
    spikes: Annotated[
        list[Annotated[float, Field(gt=-1, le=1e6)]],
        Field(
            max_length=32,
            fail_fast=True,
            description="strengths theta of directions added to the identity: C = I + theta*v*v^T",
        ),
    ] = Field(default=[])
    ridge: Annotated[float, Field(ge=0, le=1e6, description="added to the empirical covariance")] = 0.0
    samples_a: Annotated[Matrix | None, Field(description="of model A, one row a random seed")] = None
    samples_b: Annotated[Matrix | None, Field(description="of model B, with the same seeds in the same order")] = None
    train_a: Matrix | None = None
    """what model A was trained on"""
    train_b: Matrix | None = None
    """what model B was trained on; shares no row with train_a"""
    holdout: Matrix | None = None
    """rows that neither was trained on"""
    reference: Annotated[Matrix | None, Field(description="rows whose principal directions are the latent ones")] = None
    data: Matrix | None = None
    """rows to split in disjoint halves"""
    n_grid: Annotated[list[Count] | None, Field(min_length=1, max_length=32, fail_fast=True)] = None
    """rows of each half, one fit for each number"""
    latent_dim: Annotated[int, Field(ge=1, le=MAX_DIMENSION)] = 1
    """how many leading directions count as latent"""
    center: bool = True
    """subtract the mean first"""
    n_probe: Annotated[int, Field(ge=2, le=1024, description="noise vectors for the memorisation ratio")] = 64
    repeats: Annotated[int, Field(ge=1, le=64, description="random splits averaged at each n")] = 4
    quadrature_points: Annotated[int, Field(ge=50, le=4000)] = 400
    """of the integral over the spectrum; more is finer"""


class TheoryCurves(ReplyPart):
    """Order parameters against the load n/d, in the limit of many dimensions.

    Attributes:
        convergence: q: cosine between two models' samples from the same noise.
        memorisation_ratio: Nearest similarity to the training set over that to a held-out set; identity only.
        nearest_similarity: The former, where n and d are given; identity only.
        latent_overlap_sq: Squared overlap of each spike's direction with its empirical one, a row a spike.
        top_eigenvalue: The empirical eigenvalue of each spike, without the ridge, a row a spike.
        wasserstein2_sq_per_dim: Squared distance of model and truth for each dimension; identity without ridge only.
        bbp_threshold_load: Below this load nothing of the spike is seen; one a spike.
        half_convergence_load: Where q is 1/2; null if it never is.
    """

    load: list[float]
    convergence: list[float]
    memorisation_ratio: list[float] | None
    nearest_similarity: list[float] | None
    latent_overlap_sq: list[list[float]]
    top_eigenvalue: list[list[float]]
    wasserstein2_sq_per_dim: list[float] | None
    bbp_threshold_load: list[float]
    half_convergence_load: float | None


class Convergence(ReplyPart):
    """Agreement of paired samples: mean cosine, its 95 % interval, and what theory predicts from the spectrum."""

    mean: float
    ci95: tuple[float, float]
    predicted: float


class Memorisation(ReplyPart):
    """Mean |cosine| to the nearest row of the own training set and of an equally large set never trained on."""

    mean_nearest_similarity: float
    holdout: float
    ratio: float


class LatentRecovery(ReplyPart):
    """Mean squared overlap of leading principal directions: generated with reference, and model with model."""

    overlap_sq: float
    between_models_overlap_sq: float


class Distances(ReplyPart):
    """A bulk distance, 2(1 − q), and a latent distance, 1 − overlap_sq."""

    bulk: float
    latent: float


class SampleMeasures(ReplyPart):
    """What the samples of two models say; the verdict's limits are this service's convention."""

    convergence: Convergence
    memorisation: Memorisation
    latent_recovery: LatentRecovery
    distances: Distances
    verdict: Verdict


class SplitHalfCurves(ReplyPart):
    """Linear generators fitted on two disjoint sets of n rows each, averaged over repeats.

    Attributes:
        latent_overlap_sq: With the principal directions of all rows.
        between_halves_overlap_sq: Of one half's directions with the other's.
        predicted_convergence: By the theory, from the spectrum of all rows.
    """

    n: list[int]
    load: list[float]
    convergence: list[float]
    predicted_convergence: list[float]
    memorisation_ratio: list[float]
    latent_overlap_sq: list[float]
    between_halves_overlap_sq: list[float]


class MemorisationReply(AnalysisResponse):
    """The part of the mode asked for; the others are null."""

    mode: Literal["theory", "samples", "split_half"]
    theory: TheoryCurves | None = None
    samples: SampleMeasures | None = None
    split_half: SplitHalfCurves | None = None
