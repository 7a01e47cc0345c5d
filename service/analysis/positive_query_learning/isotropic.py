"""Radial isotropic position: coordinates in which every direction sees the same mean square of unit vectors.

Tyler's fixed point Σ ← (D/N) Σ y yᵀ/(yᵀΣ⁻¹y); then z = Σ^{−1/2} y scaled to norm 1 has mean ⟨u, z⟩² = 1/D for every
unit u. It exists only if no k-dimensional subspace holds more than a share k/D of the points; where an eigenvalue
collapses, the points of the large eigenvalues' subspace are kept and the search goes on inside it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
STEPS, TOLERANCE = 200, 1e-5
COLLAPSED, LARGE = 1e-6, 1e-3
RANK, INSIDE = 1e-10, 1e-7


class Frame(NamedTuple):
    """Coordinates of a subspace of lifted points.

    Attributes:
        forward: k × D: lifted points to coordinates.
        back: D × k: the way back.
        outside: (D−k) × D: zero, up to rounding, on the subspace; rows are of unit length in scaled coordinates.
        scale: D: the scaling of coordinates in which `outside` is judged.
    """

    forward: Matrix
    back: Matrix
    outside: Matrix
    scale: NDArray[np.float64]

    def holds(self, lifted: Matrix) -> NDArray[np.bool_]:
        """Which points are in the subspace, up to rounding."""
        lengths = np.linalg.norm(lifted / self.scale, axis=1)
        return (np.abs(lifted @ self.outside.T) <= INSIDE * lengths[:, None]).all(axis=1)


def position(lifted: Matrix) -> Frame:
    """Isotropic coordinates of some of the points.

    Args:
        lifted: N × D, no row zero.
    """
    scale = np.abs(lifted).max(axis=0)
    scale[scale == 0] = 1.0
    rows = lifted / scale
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    basis = np.eye(rows.shape[1])
    while True:
        inside = rows @ basis
        _, singular, right = np.linalg.svd(inside, full_matrices=False)
        rank = int((singular > RANK * singular[0]).sum())
        basis = basis @ right[:rank].T
        spread = singular[:rank] / np.sqrt(len(rows))
        white = (rows @ basis) / spread
        values, vectors = tyler(white)
        if values.min() > COLLAPSED * values.mean():
            break
        large = vectors[:, values > LARGE * values.mean()]
        lengths = np.linalg.norm(white, axis=1)
        members = np.linalg.norm(white - white @ large @ large.T, axis=1) <= INSIDE * lengths
        if not members.any() or large.shape[1] == rank:
            values = np.maximum(values, COLLAPSED * values.mean())
            break
        rows, basis = rows[members], basis @ np.diag(spread) @ large
        basis = np.linalg.qr(basis)[0]
    root = np.sqrt(values)
    forward = ((vectors.T / root[:, None]) @ (basis / spread).T) / scale
    back = (basis * spread @ vectors * root) * scale[:, None]
    outside = _complement(basis) / scale
    return Frame(forward, back, outside, scale)


def _complement(basis: Matrix) -> Matrix:
    left = np.linalg.svd(basis, full_matrices=True)[0]
    return left[:, basis.shape[1] :].T


def tyler(rows: Matrix) -> tuple[NDArray[np.float64], Matrix]:
    """Eigenvalues (mean 1) and eigenvectors of Tyler's fixed point, or of where it began to collapse."""
    count, size = rows.shape
    sigma = np.eye(size)
    values, vectors = np.linalg.eigh(sigma)
    for _ in range(STEPS):
        weights = np.sum((rows @ vectors) ** 2 / np.maximum(values, 1e-300), axis=1)
        new = (size / count) * (rows / weights[:, None]).T @ rows
        new *= size / np.trace(new)
        moved = float(np.linalg.norm(new - sigma))
        sigma = new
        values, vectors = np.linalg.eigh(sigma)
        if moved < TOLERANCE * size or values.min() < COLLAPSED * values.mean():
            break
    return values, vectors
