"""Facts to be stored: inputs, targets, and which competitors each fact has."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


class Facts(Protocol):
    """p facts: inputs p × d_in, and the scores that a map's outputs H = X Wᵀ (p × d_out) give.

    Attributes:
        inputs: X.
        own: Target of each fact, p × d_out.
        target_scale: σ_y, the standard deviation of the targets' entries.
        competitors: How many each fact has.
    """

    inputs: Matrix
    own: Matrix
    target_scale: float
    competitors: int

    def gaps(self, outputs: Matrix) -> Matrix:
        """Own score − competitor's score, p × competitors or more; +∞ where there is none."""
        ...

    def pull(self, weights: Matrix) -> Matrix:
        """Σ_k weight_{μk} (y_k − y_own): the outputs' gradient, p × d_out; weights are 0 where a gap is +∞."""
        ...


@dataclass
class Shared:
    """Competitors of a fact are all other targets.

    Attributes:
        inputs: X, p × d_in.
        targets: Y, K × d_out.
        labels: Row of Y that belongs to each fact, p.
    """

    inputs: Matrix
    targets: Matrix
    labels: Labels

    def __post_init__(self) -> None:
        self.own = self.targets[self.labels]
        self.target_scale = float(self.targets.std())
        self.competitors = len(self.targets) - 1
        self._rows = np.arange(len(self.labels))

    def gaps(self, outputs: Matrix) -> Matrix:
        """Own score − each target's score; +∞ at the own one."""
        scores = outputs @ self.targets.T
        found = scores[self._rows, self.labels][:, None] - scores
        found[self._rows, self.labels] = np.inf
        return found

    def pull(self, weights: Matrix) -> Matrix:
        """The outputs' gradient."""
        return weights @ self.targets - weights.sum(axis=1)[:, None] * self.own


@dataclass
class Decoupled:
    """Each fact has competitors of its own.

    Attributes:
        inputs: X, p × d_in.
        own: p × d_out.
        others: p × (K−1) × d_out.
    """

    inputs: Matrix
    own: Matrix
    others: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.target_scale = float(self.others.std())
        self.competitors = self.others.shape[1]

    def gaps(self, outputs: Matrix) -> Matrix:
        """Own score − each competitor's."""
        own = np.sum(outputs * self.own, axis=1)
        return own[:, None] - np.matmul(self.others, outputs[:, :, None])[:, :, 0]

    def pull(self, weights: Matrix) -> Matrix:
        """The outputs' gradient."""
        return np.matmul(weights[:, None, :], self.others)[:, 0] - weights.sum(axis=1)[:, None] * self.own


def draw_shared(
    facts: int, targets: int, input_dim: int, output_dim: int, rng: np.random.Generator, *, identity: bool
) -> Shared:
    """Gaussian inputs and targets, entries of variance 1/d; label μ of fact μ, or uniform labels."""
    inputs = rng.standard_normal((facts, input_dim)) / np.sqrt(input_dim)
    vectors = rng.standard_normal((targets, output_dim)) / np.sqrt(output_dim)
    labels = np.arange(facts) if identity else rng.integers(targets, size=facts)
    return Shared(inputs, vectors, labels.astype(np.int64))


def draw_decoupled(facts: int, targets: int, input_dim: int, output_dim: int, rng: np.random.Generator) -> Decoupled:
    """Gaussian inputs, and K Gaussian targets for each fact."""
    inputs = rng.standard_normal((facts, input_dim)) / np.sqrt(input_dim)
    vectors = rng.standard_normal((facts, targets, output_dim)) / np.sqrt(output_dim)
    return Decoupled(inputs, vectors[:, 0].copy(), vectors[:, 1:].copy())
