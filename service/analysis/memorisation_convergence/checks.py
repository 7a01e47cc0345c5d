"""What the three modes refuse, and their arrays."""

import numpy as np

from service.analysis.frame import AnalysisError
from service.analysis.memorisation_convergence.schema import (
    MAX_CELLS,
    MAX_DIMENSION,
    MemorisationRequest,
    PowerLaw,
)

FIELDS = {
    "theory": {"load_grid", "n_samples", "dimension", "spectrum", "spikes", "ridge", "quadrature_points"},
    "samples": {
        *("samples_a", "samples_b", "train_a", "train_b", "holdout", "reference"),
        *("latent_dim", "center", "quadrature_points"),
    },
    "split_half": {"data", "n_grid", "latent_dim", "ridge", "center", "n_probe", "repeats", "quadrature_points"},
}
DEFAULT_DIMENSION = 400
SMALLEST, TINY = 1e-6, 1e-50
"""Smallest strength of a spike; smallest scale of data, below which squares are lost."""
DEFAULT_LOADS = np.geomspace(0.05, 20, 20)


def refuse_unused(request: MemorisationRequest) -> None:
    """Refuse the fields of another mode."""
    for field in sorted(request.model_fields_set - FIELDS[request.mode] - {"mode", "seed"}):
        raise AnalysisError(field, f"is not used in mode {request.mode}")


def loads_of(request: MemorisationRequest) -> np.ndarray:
    """The loads n/d that were asked for."""
    if request.n_samples is None:
        return DEFAULT_LOADS if request.load_grid is None else np.array(request.load_grid)
    if request.load_grid is not None:
        raise AnalysisError("n_samples", "is one load; give it with dimension, or give load_grid")
    if request.dimension is None:
        raise AnalysisError("dimension", "is needed with n_samples")
    return np.array([request.n_samples / request.dimension])


def spectrum_of(request: MemorisationRequest) -> np.ndarray:
    """The covariance's eigenvalues; one value stands for all of an identity."""
    if request.spikes and request.spectrum != "identity":
        raise AnalysisError("spikes", "are of the identity spectrum")
    if any(abs(theta) < SMALLEST for theta in request.spikes):
        raise AnalysisError("spikes", f"a strength between -{SMALLEST:g} and {SMALLEST:g} is no spike")
    if isinstance(request.spectrum, PowerLaw):
        d = DEFAULT_DIMENSION if request.dimension is None else request.dimension
        if d > MAX_DIMENSION:
            raise AnalysisError("dimension", f"is at most {MAX_DIMENSION} for a power law")
        return np.arange(1, d + 1) ** -request.spectrum.power_law
    if isinstance(request.spectrum, list):
        values = np.array(request.spectrum)
        if values.max() < TINY:
            raise AnalysisError("spectrum", f"is all zero, or has no value of at least {TINY:g}")
        if request.dimension not in (None, len(values)):
            raise AnalysisError("dimension", f"is not the number of values in spectrum, {len(values)}")
        return values
    if request.dimension is not None and request.n_samples is None:
        raise AnalysisError("dimension", "is not used by the identity without n_samples: only the load counts")
    return np.ones(1)


def needed(request: MemorisationRequest, *fields: str) -> list[np.ndarray]:
    """The matrices of these fields as arrays of one width; refuses what is missing, ragged, or too large."""
    found: dict[str, np.ndarray] = {}
    for field in fields:
        if getattr(request, field) is None:
            raise AnalysisError(field, f"is needed in mode {request.mode}")
        found[field] = matrix(request, field)
    check_sizes(found)
    return list(found.values())


def optional(request: MemorisationRequest, field: str, width: int) -> np.ndarray | None:
    """The matrix of a field that may be left out."""
    if getattr(request, field) is None:
        return None
    found = matrix(request, field)
    if found.shape[1] != width:
        raise AnalysisError(field, f"has rows of {found.shape[1]} numbers, and the samples {width}")
    return found


def matrix(request: MemorisationRequest, field: str) -> np.ndarray:
    """A field's rows as an array (N, d)."""
    rows = getattr(request, field)
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise AnalysisError(f"{field}.{number}", f"has {len(row)} numbers, and the first row {len(rows[0])}")
    if len(rows) * len(rows[0]) > MAX_CELLS:
        raise AnalysisError(field, f"has {len(rows)} x {len(rows[0])} numbers; at most {MAX_CELLS}")
    if len(rows) < 2:
        raise AnalysisError(field, "has one row; principal directions need two")
    return np.array(rows, dtype=float)


def check_sizes(found: dict[str, np.ndarray]) -> None:
    """Refuse matrices of different widths, and too many numbers together."""
    first, reference = next(iter(found.items()))
    for field, rows in found.items():
        if rows.shape[1] != reference.shape[1]:
            raise AnalysisError(field, f"has rows of {rows.shape[1]} numbers, and {first} rows of {reference.shape[1]}")
    if sum(rows.size for rows in found.values()) > MAX_CELLS:
        raise AnalysisError(first, f"and the others have more than {MAX_CELLS} numbers together")


def check_pairing(a: np.ndarray, b: np.ndarray) -> None:
    """Refuse samples that cannot be pairs."""
    if a.shape != b.shape:
        message = f"has {len(b)} rows, and samples_a {len(a)}: they must be pairs, with equal seeds in equal order"
        raise AnalysisError("samples_b", message)


def check_disjoint(field: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Refuse rows that appear in both, by their exact bytes."""
    known = {row.tobytes() for row in ours}
    shared = sum(row.tobytes() in known for row in theirs)
    if shared:
        raise AnalysisError(field, f"shares {shared} exact rows with train_a; the sets must be disjoint")


def check_latent_dim(latent_dim: int, **rows: np.ndarray) -> None:
    """Refuse more directions than rows or dimensions have."""
    for name, one in rows.items():
        if latent_dim > min(one.shape):
            raise AnalysisError("latent_dim", f"is more than min(rows, dimensions) = {min(one.shape)} of {name}")


def check_norms(center: bool, **rows: np.ndarray) -> None:
    """Refuse rows without a direction, or so short that their squares are lost."""
    for name, one in rows.items():
        zero = np.flatnonzero(np.linalg.norm(one, axis=1) < TINY)
        if len(zero):
            raise AnalysisError(f"{name}.{zero[0]}", "has norm zero" + (" once it is centred" if center else ""))
