"""The approximate case: rows near a subspace, by subsample and aggregate (arXiv 2106.00001; constants derived here).

Disjoint blocks of rows each name their own top-k subspace, as the images of a few random reference points under its
projector; the images are put on a grid with a random offset, and each block votes for its cell. One row changes one
block and so moves one vote. The cell is released by certified selection, and its centre is turned back into a basis.

A block's vote depends on its own rows, the reference points and the grid alone: rounding may move it to a
neighbouring cell, but never another block's vote, so privacy does not rest on floating-point accuracy.
"""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import ceil, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.analysis.private_subspace.selection import half_width

Array = NDArray[np.float64]
SPLIT = 0.1
"""b: probability that a random offset parts unanimous blocks, and that their spread is underestimated."""
SPARE_BLOCKS = 9
REFERENCES_PER_DIM = 8
ENTRY_LIMIT = 1e100
"""A row with a larger entry counts as a zero row: its squares would overflow."""


class Plan(NamedTuple):
    """Everything that does not depend on the rows' values.

    Attributes:
        k: Dimension of the subspace.
        num_blocks: t.
        block_rows: m, rows of a block.
        references: The reference points, [q, d].
        offset: Of the grid, [q, d].
        side: c, of a cell.
    """

    k: int
    num_blocks: int
    block_rows: int
    references: Array
    offset: Array
    side: float


def default_blocks(epsilon: Decimal, delta: Decimal) -> int:
    """t: unanimous blocks are then released with certainty, with 9 to spare for those that dissent."""
    return ceil(4 * half_width(epsilon, delta)) + SPARE_BLOCKS


def cell_side(noise_ratio: float, k: int, d: int, num_blocks: int, block_rows: int, num_references: int) -> float:
    """c = w·q·d/b, where w bounds the range of one coordinate over all blocks by first-order perturbation.

    Args:
        noise_ratio: γ: root of the eigenvalue ratio λ_{k+1}/λ_k. Wrong values cost utility, never privacy.
        k: Dimension of the subspace.
        d: Entries of a row.
        num_blocks: t.
        block_rows: m > k + 1.
        num_references: q.
    """
    coordinates = num_references * d
    spread = noise_ratio * sqrt(2 * k / (block_rows - k - 1))
    width = 2 * spread * sqrt(2 * log(2 * num_blocks * coordinates / SPLIT))
    return width * coordinates / SPLIT


def expected_error(side: float, k: int, d: int, num_references: int) -> float:
    """About how far the released subspace is off: sine of the largest angle, over-estimated by about 1.5 times."""
    noise = sqrt(d - k) + sqrt(k)
    return side / sqrt(12) * noise / (sqrt(num_references) - sqrt(k))


def make_plan(
    noise_ratio: float, k: int, d: int, num_rows: int, num_blocks: int, num_references: int, rng: np.random.Generator
) -> Plan:
    """Draw reference points and grid. They are no secret and may be known to anybody."""
    block_rows = num_rows // num_blocks
    side = cell_side(noise_ratio, k, d, num_blocks, block_rows, num_references)
    shape = (num_references, d)
    return Plan(k, num_blocks, block_rows, rng.standard_normal(shape), rng.uniform(0, side, shape), side)


def vote(block: Array, number: int, plan: Plan) -> bytes:
    """A block's cell, or a cell of its own where its rows do not span k dimensions.

    Args:
        block: Its rows, [m, d].
        number: Which block it is.
        plan: The grid.
    """
    alone = b"block %d" % number
    try:
        _, singular, axes = np.linalg.svd(block, full_matrices=False)
    except np.linalg.LinAlgError:
        return alone
    if not singular[plan.k - 1] > singular[0] * np.finfo(float).eps * max(block.shape):
        return alone
    top = axes[: plan.k]
    images = plan.references @ top.T @ top
    return np.floor((images - plan.offset) / plan.side).astype(np.int64).tobytes()


def count_votes(rows: Array, plan: Plan) -> Counter[bytes]:
    """Votes by cell. Rows beyond t·m are not used."""
    size = plan.block_rows
    return Counter(vote(rows[i * size : (i + 1) * size], i, plan) for i in range(plan.num_blocks))


def gap(votes: Counter[bytes]) -> tuple[bytes, Fraction]:
    """The best cell and half its lead over the second."""
    (top, most), *others = votes.most_common(2)
    return top, Fraction(most - (others[0][1] if others else 0), 2)


def is_cell(key: bytes, plan: Plan) -> bool:
    """Whether a vote is for a cell of the grid."""
    return len(key) == plan.references.size * np.dtype(np.int64).itemsize


def centre_basis(key: bytes, plan: Plan) -> list[list[float]]:
    """An orthonormal basis [k, d] of the subspace that the centre of a cell stands for."""
    cell = np.frombuffer(key, dtype=np.int64).reshape(plan.references.shape)
    centre = (cell + 0.5) * plan.side + plan.offset
    return np.linalg.svd(centre, full_matrices=False)[2][: plan.k].tolist()


def blocks_needed(rows: Sequence[object], k: int) -> int:
    """Most blocks that n rows can be split into: each needs k + 2."""
    return len(rows) // (k + 2)
