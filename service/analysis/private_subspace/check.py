"""What is refused. Only shapes and parameters are looked at: an error that depended on a row's values would leak it."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from service.analysis.frame import AnalysisError
from service.analysis.private_subspace import approximate, exact, noise
from service.analysis.private_subspace.selection import accounted_delta, exactly, half_width, rounded_up

if TYPE_CHECKING:
    from service.analysis.private_subspace import SubspaceRequest

MAX_ROWS = 100_000
MAX_CELLS = 1_000_000
SEARCH_LIMIT = 5_000_000
LARGEST_COVARIANCE = 512
LARGEST_IMAGES = 4_000_000
"""Numbers that all blocks' votes may hold."""
OF_METHOD = {
    "noise_ratio": "approximate",
    "num_blocks": "approximate",
    "num_reference_points": "approximate",
    "selection": "approximate",
    "row_norm_bound": "gaussian_covariance",
}


class Shape(NamedTuple):
    """n, d and k."""

    n: int
    d: int
    k: int


class Blocks(NamedTuple):
    """How the approximate case splits the rows: t, m and q, and the side of a cell."""

    num_blocks: int
    block_rows: int
    num_references: int
    side: float


def checked(request: "SubspaceRequest") -> Shape:
    """The shape of a request that can be answered; raises `AnalysisError`."""
    if request.seed is not None and not request.unsafe_debug:
        raise AnalysisError("seed", "the noise of a private release may not be chosen; only with unsafe_debug")
    for field, method in OF_METHOD.items():
        if getattr(request, field) is not None and request.method != method:
            raise AnalysisError(field, f"only method {method} uses it")
    n, d, k = len(request.data), dimension(request), request.subspace_dim
    if n < 2:
        raise AnalysisError("data", "at least 2 rows")
    if n * d > MAX_CELLS:
        raise AnalysisError("data", f"{n} rows of {d} entries; at most {MAX_CELLS} entries", status=413)
    if k >= d:
        raise AnalysisError("subspace_dim", f"must be smaller than the rows' length {d}")
    if exactly(request.privacy.delta) * n > 1:
        raise AnalysisError("privacy.delta", f"at most 1/{n}, one part in the number of rows")
    of_method = {"exact": check_exact, "approximate": blocks, "gaussian_covariance": check_covariance}
    of_method[request.method](request, n, d)
    return Shape(n, d, k)


def dimension(request: "SubspaceRequest") -> int:
    """d: as declared, else the length that all rows have."""
    if request.dimension is not None:
        return request.dimension
    lengths = {len(row) if isinstance(row, list) else -1 for row in request.data}
    if len(lengths) != 1 or -1 in lengths:
        raise AnalysisError("data", "rows of one length; or declare `dimension`, and odd rows count as zero rows")
    if not 2 <= (length := lengths.pop()) <= 4096:
        raise AnalysisError("data", f"rows of {length} entries; from 2 to 4096")
    return length


def check_exact(request: "SubspaceRequest", n: int, d: int) -> None:
    """Bounds of the search."""
    k = request.subspace_dim
    if k > exact.LARGEST_DIM:
        raise AnalysisError("subspace_dim", f"at most {exact.LARGEST_DIM} by the exact method")
    if n < k:
        raise AnalysisError("data", f"fewer rows than the subspace has dimensions, {k}")
    if math.comb(n, k - 1) * n > SEARCH_LIMIT:
        message = f"C({n}, {k - 1}) · {n} subspaces to compare; at most {SEARCH_LIMIT}: send fewer rows"
        raise AnalysisError("data", message)


def blocks(request: "SubspaceRequest", n: int, d: int) -> Blocks:
    """The approximate case's split, or the refusal of one that could not say anything."""
    k, privacy = request.subspace_dim, request.privacy
    if request.noise_ratio is None:
        raise AnalysisError("noise_ratio", "needed by method approximate: how far from the subspace the rows may lie")
    if request.selection == "stable_histogram":
        need_opendp("selection", "stable_histogram")
    references = request.num_reference_points or approximate.REFERENCES_PER_DIM * k
    if references <= k:
        raise AnalysisError("num_reference_points", f"must be larger than subspace_dim, {k}")
    count = request.num_blocks or approximate.default_blocks(exactly(privacy.epsilon), exactly(privacy.delta))
    size = n // count
    if size <= k + 1:
        message = f"{n} rows make {count} blocks of {size}, and a block needs {k + 2}: {count * (k + 2)} rows"
        raise AnalysisError("num_blocks", message)
    if count * references * d > LARGEST_IMAGES:
        message = f"{count} blocks of {references} points of {d} numbers; at most {LARGEST_IMAGES} numbers"
        raise AnalysisError("num_reference_points", message)
    side = approximate.cell_side(request.noise_ratio, k, d, count, size, references)
    error = approximate.expected_error(side, k, d, references)
    if error >= 1:
        message = (
            f"rows so far from the subspace give an error of about {error:.2g} of at most 1: the basis would say "
            "nothing; send more rows, or use gaussian_covariance"
        )
        raise AnalysisError("noise_ratio", message)
    return Blocks(count, size, references, side)


def check_covariance(request: "SubspaceRequest", n: int, d: int) -> None:
    """Bounds of the noisy matrix."""
    need_opendp("method", "gaussian_covariance")
    if d > LARGEST_COVARIANCE:
        raise AnalysisError("data", f"rows of {d} entries; at most {LARGEST_COVARIANCE} by gaussian_covariance")


def need_opendp(field: str, value: str) -> None:
    """Refuse what only OpenDP can do where it is not installed."""
    if not noise.is_installed():
        raise AnalysisError(field, f"{value} needs OpenDP: pip install powercut[analysis]")


def miss(request: "SubspaceRequest") -> Decimal:
    """The probability with which the search fails."""
    return exact.MISS if request.method == "exact" else Decimal(0)


def charged(request: "SubspaceRequest") -> tuple[float, float]:
    """ε and δ that a release costs, δ rounded up; raises what `checked` raises."""
    checked(request)
    epsilon, delta = exactly(request.privacy.epsilon), exactly(request.privacy.delta)
    if request.method == "gaussian_covariance" or request.selection == "stable_histogram":
        return request.privacy.epsilon, request.privacy.delta  # OpenDP's map is held below both
    return request.privacy.epsilon, rounded_up(accounted_delta(epsilon, delta, miss(request)))


def can_be_certain(request: "SubspaceRequest", n: int) -> bool:
    """Whether any data could make the exact method release with certainty."""
    return n >= 4 * half_width(exactly(request.privacy.epsilon), exactly(request.privacy.delta))


def integer_rows(data: Sequence[Any], d: int) -> list[list[int]]:
    """Rows of integers below 2^30 in magnitude; any other row counts as a zero row."""
    return [[int(entry) for entry in row] if is_integer_row(row, d) else [0] * d for row in data]


def is_integer_row(row: Any, d: int) -> bool:
    """Whether a row is d integers in range; 4.0 is one."""
    return is_row(row, d, exact.ENTRY_LIMIT) and all(entry == int(entry) for entry in row)


def float_rows(data: Sequence[Any], d: int) -> list[list[float]]:
    """Rows of finite numbers; any other row counts as a zero row."""
    return [[float(entry) for entry in row] if is_row(row, d, approximate.ENTRY_LIMIT) else [0.0] * d for row in data]


def is_row(row: Any, d: int, limit: float) -> bool:
    """Whether a row is d numbers below a limit in magnitude, which no NaN is."""
    return (
        isinstance(row, list)
        and len(row) == d
        and all(type(entry) in {int, float} and abs(entry) < limit for entry in row)
    )
