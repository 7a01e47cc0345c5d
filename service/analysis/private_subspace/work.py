"""One release: the rows' part in the reply is the basis, or null, and nothing else."""

import random
import secrets
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service.analysis.frame import Context, Notice
from service.analysis.private_subspace import (
    Debug,
    PrivacyReport,
    SubspaceRequest,
    SubspaceResponse,
    Utility,
    approximate,
    exact,
    noise,
)
from service.analysis.private_subspace.check import (
    Shape,
    blocks,
    can_be_certain,
    charged,
    checked,
    float_rows,
    integer_rows,
)
from service.analysis.private_subspace.selection import exactly, half_width, is_released, release_probability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Basis = list[list[int | str | float]]
WEAK = 0.3
"""An expected error above this is worth a warning."""
MECHANISMS = {
    "exact": "majority selection, truncated Laplace",
    "gap": "gap selection of a cell, truncated Laplace",
    "stable_histogram": "stable histogram of cells (OpenDP)",
    "gaussian_covariance": "discrete Gaussian noise on second moments (OpenDP)",
}
EXACT_INTEGERS = 1 << 53


class Release(NamedTuple):
    """What a method came to."""

    basis: Basis | None
    margin: Fraction | None = None
    score: int | None = None


def compute(request: SubspaceRequest, context: Context) -> SubspaceResponse:
    """The release. Its randomness is the operating system's, or a seed's if the request gives up privacy."""
    shape = checked(request)
    source = secrets.SystemRandom() if request.seed is None else random.Random(request.seed)
    methods: dict[str, Callable[[SubspaceRequest, Shape, random.Random], Release]] = {
        "exact": release_exact,
        "approximate": release_approximate,
        "gaussian_covariance": release_covariance,
    }
    release = methods[request.method](request, shape, source)
    form = None if release.basis is None else "rref_rational" if request.method == "exact" else "orthonormal_float"
    epsilon, delta = charged(request)
    return SubspaceResponse(
        method=request.method,
        seed=request.seed,
        warnings=notices(request, shape),
        private=not request.unsafe_debug,
        released=release.basis is not None,
        basis=release.basis,
        basis_form=form,
        privacy=PrivacyReport(
            epsilon=epsilon,
            delta=delta,
            neighbouring=request.privacy.neighbouring,
            mechanism=MECHANISMS[mechanism(request)],
            budget_remaining=context.about.budget,
        ),
        utility=Utility(exact_if_released=request.method == "exact", expected_error=error_of(request, shape)),
        release_id=context.about.release_id,
        debug=debug(request, release) if request.unsafe_debug else None,
    )


def mechanism(request: SubspaceRequest) -> str:
    """The key of `MECHANISMS`."""
    return (request.selection or "gap") if request.method == "approximate" else request.method


def release_exact(request: SubspaceRequest, shape: Shape, source: random.Random) -> Release:
    """See `exact`."""
    rows = integer_rows(request.data, shape.d)
    found = exact.search(rows, shape.k, source)
    margin = exact.margin(found, shape.n)
    chosen = is_released(margin, exactly(request.privacy.epsilon), exactly(request.privacy.delta), source)
    if found is None or not chosen:
        return Release(None, margin, found.score if found else None)
    basis = exact.echelon([rows[i] for i in found.spanning])
    return Release([[shown(entry) for entry in row] for row in basis], margin, found.score)


def shown(entry: Fraction) -> int | str | float:
    """An integer, where a double holds it too, else a fraction as text."""
    return int(entry) if entry.denominator == 1 and abs(entry) < EXACT_INTEGERS else str(entry)


def release_approximate(request: SubspaceRequest, shape: Shape, source: random.Random) -> Release:
    """See `approximate`."""
    split, rng = blocks(request, shape.n, shape.d), generator(source)
    assert request.noise_ratio is not None
    plan = approximate.make_plan(
        request.noise_ratio, shape.k, shape.d, shape.n, split.num_blocks, split.num_references, rng
    )
    votes = approximate.count_votes(np.array(float_rows(request.data, shape.d)), plan)
    top, margin = approximate.gap(votes)
    epsilon, delta = request.privacy.epsilon, request.privacy.delta
    if request.selection == "stable_histogram":
        key, _ = noise.stable_cell(votes, epsilon, delta)
    else:
        key = top if is_released(margin, exactly(epsilon), exactly(delta), source) else None
    cell = key is not None and approximate.is_cell(key, plan)
    basis: Basis | None = [[*row] for row in approximate.centre_basis(key, plan)] if key and cell else None
    return Release(basis, margin, votes[top])


def release_covariance(request: SubspaceRequest, shape: Shape, source: random.Random) -> Release:
    """The top eigenvectors of noisy second moments. Always an answer, whose error grows with d."""
    bound = 1.0 if request.row_norm_bound is None else request.row_norm_bound
    rows = noise.integer_rows(np.array(float_rows(request.data, shape.d)), bound)
    moments, _ = noise.noisy_moments(rows, request.privacy.epsilon, request.privacy.delta)
    vectors = np.linalg.eigh(moments)[1][:, ::-1][:, : shape.k]
    return Release([[*row] for row in vectors.T.tolist()])


def generator(source: random.Random) -> np.random.Generator:
    """For what is drawn beside the data and may be known."""
    return np.random.default_rng(source.getrandbits(256))


def error_of(request: SubspaceRequest, shape: Shape) -> float | None:
    """The error that the parameters promise."""
    if request.method != "approximate":
        return 0.0 if request.method == "exact" else None
    split = blocks(request, shape.n, shape.d)
    return approximate.expected_error(split.side, shape.k, shape.d, split.num_references)


def notices(request: SubspaceRequest, shape: Shape) -> list[Notice]:
    """What the parameters alone give reason to say."""
    found: list[Notice] = []
    if request.unsafe_debug:
        found.append(Notice(code="not_private", message="unsafe_debug: this reply is not differentially private"))
    if request.unsafe_debug and request.method != "exact" and mechanism(request) != "gap":
        found.append(Notice(code="seed_unused", message="OpenDP's noise follows no seed"))
    if request.method == "exact" and not can_be_certain(request, shape.n):
        width = half_width(exactly(request.privacy.epsilon), exactly(request.privacy.delta))
        message = f"{shape.n} rows can never be released with certainty; 4B = {float(4 * width):.1f} could"
        found.append(Notice(code="too_few_rows", message=message))
    if (error_of(request, shape) or 0) > WEAK:
        message = "noise_ratio and the rows' length promise a coarse basis; gaussian_covariance may be closer"
        found.append(Notice(code="weak_utility", message=message))
    return found


def debug(request: SubspaceRequest, release: Release) -> Debug:
    """What a private reply leaves out."""
    probability: Decimal | None = None
    if release.margin is not None and mechanism(request) != "stable_histogram":
        delta = exactly(request.privacy.delta)
        probability = release_probability(release.margin, exactly(request.privacy.epsilon), delta)
    return Debug(
        margin=None if release.margin is None else float(release.margin),
        release_probability=None if probability is None else float(probability),
        top_score=release.score,
    )


def draw(request: SubspaceRequest, response: SubspaceResponse) -> "Figure":
    """The basis as a picture, beside the release probability by margin. The rows themselves are not looked at."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    if response.basis is None:
        left.text(0.5, 0.5, "nothing released", ha="center", va="center")
        left.set_axis_off()
    else:
        values = np.array([[float(Fraction(str(entry))) for entry in row] for row in response.basis])
        top = float(np.abs(values).max())
        image = left.imshow(values, aspect="auto", cmap="RdBu", vmin=-top, vmax=top)
        figure.colorbar(image, ax=left)
        left.set(title=f"released basis ({response.method})", xlabel="coordinate", ylabel="basis vector")
    epsilon, delta = exactly(request.privacy.epsilon), exactly(request.privacy.delta)
    margins = [Fraction(i, 2) for i in range(int(4 * half_width(epsilon, delta)) + 8)]
    right.plot([float(g) for g in margins], [float(release_probability(g, epsilon, delta)) for g in margins])
    right.set(title=f"certified selection, ε = {epsilon}, δ = {delta}", xlabel="margin g", ylabel="P(release)")
    return figure
