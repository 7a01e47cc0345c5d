"""`memorisation-convergence`: theory, samples of two models, and halves of one data set."""

from typing import TYPE_CHECKING

import numpy as np

from service.analysis.frame import AnalysisError, Context, Notice
from service.analysis.memorisation_convergence import checks, measures, theory
from service.analysis.memorisation_convergence.schema import (
    Convergence,
    Distances,
    LatentRecovery,
    Memorisation,
    MemorisationReply,
    MemorisationRequest,
    SampleMeasures,
    SplitHalfCurves,
    TheoryCurves,
    Verdict,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEMORISING_RATIO, MEMORISING_BELOW, CONVERGED_FROM, RECOVERED_FROM = 1.5, 0.5, 0.9, 0.8
SHARP_DIMENSION, NOISY_LOAD = 200, 2.0
HALVES, SMALLEST_HALF = 8, 4


def compute(request: MemorisationRequest, context: Context) -> MemorisationReply:
    """The mode that was asked for."""
    checks.refuse_unused(request)
    return {"theory": of_theory, "samples": of_samples, "split_half": of_halves}[request.mode](request, context)


def of_theory(request: MemorisationRequest, context: Context) -> MemorisationReply:
    """Curves over the load."""
    spectrum, loads = checks.spectrum_of(request), checks.loads_of(request)
    points, ridge, identity = request.quadrature_points, request.ridge, request.spectrum == "identity"
    found = []
    for number, load in enumerate(loads):
        context.report(number / len(loads), f"load {load:.3g}")
        found.append(min(1.0, theory.convergence(spectrum, load, ridge, points)))
    nearest = None
    if identity and request.n_samples is not None and request.dimension is not None:
        nearest = [theory.nearest_similarity(request.n_samples, request.dimension, ridge)]
    curves = TheoryCurves(
        load=loads.tolist(),
        convergence=found,
        memorisation_ratio=[theory.memorisation_ratio(load, ridge) for load in loads] if identity else None,
        nearest_similarity=nearest,
        latent_overlap_sq=[[theory.latent_overlap_sq(load, theta) for load in loads] for theta in request.spikes],
        top_eigenvalue=[[theory.top_eigenvalue(load, theta) for load in loads] for theta in request.spikes],
        wasserstein2_sq_per_dim=[2 * (1 - q**0.5) for q in found] if identity and ridge == 0 else None,
        bbp_threshold_load=[theory.threshold_load(theta) for theta in request.spikes],
        half_convergence_load=theory.half_convergence_load(spectrum, ridge, points),
    )
    closed = identity and ridge == 0
    warnings = [] if request.dimension is None else small_dimension(request.dimension)
    method = "free_convolution_closed_form" if closed else "deterministic_equivalent"
    return MemorisationReply(method=method, seed=context.seed, warnings=warnings, mode="theory", theory=curves)


def small_dimension(d: int) -> list[Notice]:
    """The theory is of many dimensions."""
    if d >= SHARP_DIMENSION:
        return []
    message = f"d = {d}: below {SHARP_DIMENSION} dimensions the transitions are rounded, by about d^(-1/3)"
    return [Notice(code="small_dimension", message=message)]


def of_samples(request: MemorisationRequest, context: Context) -> MemorisationReply:
    """Order parameters of two models' paired samples."""
    a, b, train_a, train_b = checks.needed(request, "samples_a", "samples_b", "train_a", "train_b")
    d = a.shape[1]
    holdout, reference = checks.optional(request, "holdout", d), checks.optional(request, "reference", d)
    checks.check_pairing(a, b)
    checks.check_disjoint("train_b", train_a, train_b)
    if holdout is not None:
        checks.check_disjoint("holdout", np.vstack([train_a, train_b]), holdout)
    named = {"samples_a": a, "samples_b": b, "train_a": train_a, "train_b": train_b}
    named |= {name: rows for name, rows in (("holdout", holdout), ("reference", reference)) if rows is not None}
    if request.center:
        mean = np.vstack([train_a, train_b]).mean(axis=0)
        named = {name: rows - mean for name, rows in named.items()}
    checks.check_norms(request.center, **named)
    named.setdefault("reference", np.vstack([named["train_a"], named["train_b"]]))
    checks.check_latent_dim(request.latent_dim, samples=a, reference=named["reference"])
    warnings = small_dimension(d)
    if reference is None and len(named["reference"]) < NOISY_LOAD * d:
        message = "the spectrum and the latent directions come from few training rows; give a reference set"
        warnings.append(Notice(code="noisy_reference", message=message))
    found = measure_samples(request, context, named)
    return MemorisationReply(
        method="paired_samples", seed=context.seed, warnings=warnings, mode="samples", samples=found
    )


def measure_samples(request: MemorisationRequest, context: Context, rows: dict[str, np.ndarray]) -> SampleMeasures:
    """All measures on centred rows; each model's held-out set is the holdout, or else the other's training set."""
    a, b, reference = rows["samples_a"], rows["samples_b"], rows["reference"]
    mean, low, high = measures.mean_interval(measures.pair_cosines(a, b))
    context.report(0.2, "predicted convergence")
    spectrum = measures.spectrum_of(reference, a.shape[1])
    load = len(rows["train_a"]) / a.shape[1]
    predicted = min(1.0, theory.convergence(spectrum, load, 0.0, request.quadrature_points))
    context.report(0.4, "nearest neighbours")
    memorised = measure_memorisation(rows, context.rng)
    context.report(0.8, "principal directions")
    leading = [measures.principal(one, request.latent_dim) for one in (a, b, reference)]
    overlap = (measures.overlap_sq(leading[0], leading[2]) + measures.overlap_sq(leading[1], leading[2])) / 2
    between = measures.overlap_sq(leading[0], leading[1])
    return SampleMeasures(
        convergence=Convergence(mean=mean, ci95=(low, high), predicted=predicted),
        memorisation=memorised,
        latent_recovery=LatentRecovery(overlap_sq=overlap, between_models_overlap_sq=between),
        distances=Distances(bulk=2 * (1 - mean), latent=1 - overlap),
        verdict=verdict(memorised.ratio, mean, low, overlap),
    )


def measure_memorisation(rows: dict[str, np.ndarray], rng: np.random.Generator) -> Memorisation:
    """Nearest similarities, own and held out, on sets of equal size: the larger is thinned at random."""
    own, other = [], []
    for samples, train, twin in (("samples_a", "train_a", "train_b"), ("samples_b", "train_b", "train_a")):
        held_out = rows.get("holdout", rows[twin])
        size = min(len(rows[train]), len(held_out))
        own.append(measures.nearest(rows[samples], rng.permutation(rows[train])[:size]))
        other.append(measures.nearest(rows[samples], rng.permutation(held_out)[:size]))
    ours, theirs = float(np.mean(own)), float(np.mean(other))
    return Memorisation(mean_nearest_similarity=ours, holdout=theirs, ratio=ours / max(theirs, 1e-300))


def verdict(ratio: float, q: float, q_low: float, overlap: float) -> Verdict:
    """A word for it, by limits that are this service's and not the paper's."""
    if ratio >= MEMORISING_RATIO and q < MEMORISING_BELOW:
        return "memorising"
    if q_low < CONVERGED_FROM:
        return "undetermined"
    return "converged_and_recovered" if overlap >= RECOVERED_FROM else "converged_bulk_only"


def of_halves(request: MemorisationRequest, context: Context) -> MemorisationReply:
    """Linear generators on disjoint halves of the rows, over a grid of their size."""
    (data,) = checks.needed(request, "data")
    if request.center:
        data = data - data.mean(axis=0)
    checks.check_norms(request.center, data=data)
    sizes = half_sizes(request, len(data))
    checks.check_latent_dim(request.latent_dim, data=data[: sizes[0]])
    d = data.shape[1]
    spectrum, reference = measures.spectrum_of(data, d), measures.principal(data, request.latent_dim)
    found, predicted = [], []
    for number, n in enumerate(sizes):
        splits = []
        for repeat in range(request.repeats):
            context.report((number + repeat / request.repeats) / len(sizes), f"halves of {n} rows")
            order = context.rng.permutation(len(data))
            noise = context.rng.standard_normal((request.n_probe, d))
            halves = data[order[:n]], data[order[n : 2 * n]]
            splits.append(measures.measure_halves(*halves, reference, request.ridge, noise))
        found.append(measures.HalfMeasures(*np.mean(splits, axis=0).tolist()))
        q = theory.convergence(spectrum, n / d, request.ridge, request.quadrature_points)
        predicted.append(min(1.0, q))
    curves = SplitHalfCurves(
        n=sizes,
        load=[n / d for n in sizes],
        convergence=[one.convergence for one in found],
        predicted_convergence=predicted,
        memorisation_ratio=[one.memorisation_ratio for one in found],
        latent_overlap_sq=[one.overlap_sq for one in found],
        between_halves_overlap_sq=[one.between_sq for one in found],
    )
    message = "the principal directions of all rows, which contain the halves, stand for the true ones"
    warnings = [*small_dimension(d), Notice(code="noisy_reference", message=message)]
    return MemorisationReply(
        method="linear_split_half", seed=context.seed, warnings=warnings, mode="split_half", split_half=curves
    )


def half_sizes(request: MemorisationRequest, rows: int) -> list[int]:
    """The sizes asked for, or eight between four rows and half of all, in ratio."""
    if request.n_grid is None:
        if rows < 2 * SMALLEST_HALF:
            raise AnalysisError("data", f"has {rows} rows; two halves need {2 * SMALLEST_HALF}, or give n_grid")
        smallest = max(SMALLEST_HALF, request.latent_dim)
        return sorted({int(n) for n in np.geomspace(min(smallest, rows // 2), rows // 2, HALVES).round()})
    for number, n in enumerate(request.n_grid):
        if not 2 <= n <= rows // 2:
            raise AnalysisError(f"n_grid.{number}", f"is between 2 and half of the {rows} rows")
    return sorted(set(request.n_grid))


def draw(request: MemorisationRequest, response: MemorisationReply) -> "Figure":
    """The mode's picture."""
    from service.analysis.memorisation_convergence import pictures

    if response.theory is not None:
        return pictures.draw_theory(request.spikes, response.theory)
    if response.samples is not None:
        return pictures.draw_samples(response.samples)
    assert response.split_half is not None
    return pictures.draw_halves(response.split_half)
