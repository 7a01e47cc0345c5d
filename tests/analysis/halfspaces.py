"""Halfspaces to learn, for tests."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.analysis.positive_query_learning import exact
from service.analysis.positive_query_learning.dialogue import Dialogue, Point
from service.analysis.positive_query_learning.halfspace import Learned, learn
from service.analysis.positive_query_learning.learn_halfspace import labelled

Points = NDArray[np.float64]


class Case(NamedTuple):
    """w·x ≥ b, a training sample of it and a fresh one."""

    normal: Points
    offset: float
    training: Points
    fresh: Points

    def label(self, point: Point) -> bool:
        return bool(np.asarray(point) @ self.normal >= self.offset)

    def mirrored(self) -> Points:
        """Negatives: the fresh positives mirrored at the boundary."""
        excess = self.fresh @ self.normal - self.offset
        found = self.fresh - 2 * np.outer(excess / (self.normal @ self.normal), self.normal)
        return found[found @ self.normal < self.offset]


def draw(kind: str, dimension: int, count: int, fresh: int, seed: int) -> Case:
    """Gaussian points, margins spread over eight decades, or scales of 1e-4 to 1e4."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(dimension)
    normal /= np.linalg.norm(normal)
    points = rng.standard_normal((4 * (count + fresh) + 50, dimension))
    if kind == "margins":
        onto = points - np.outer(points @ normal - 0.3, normal)
        points = onto + np.outer(10.0 ** rng.uniform(-7, 1, len(points)), normal)
    if kind == "anisotropic":
        scale = 10.0 ** np.linspace(-4, 4, dimension)
        points, normal = points * scale, normal / scale
    positive = points[points @ normal >= 0.3]
    return Case(normal, 0.3, positive[:count], positive[count : count + fresh])


class Result(NamedTuple):
    """A finished run."""

    learned: Learned
    queries: int
    positives: Points
    negatives: Points

    def certifies(self, point: Points) -> bool:
        return exact.certify(self.positives, self.negatives, point) is not None


def run(case: Case, seed: int = 0) -> Result:
    """Learn with the usual parameters."""
    lifted = case.training.shape[1] + 1
    talk, learned = Dialogue(10_000, (), case.label), Learned()
    settings: dict[str, Any] = {"subsample": 4 * lifted**2, "width": 1 / (4 * lifted), "max_rounds": 200}
    learn(case.training, talk, np.random.default_rng(seed), learned=learned, **settings)
    assert learned.rest == 0
    return Result(learned, len(talk.asked), *labelled(case.training, talk, learned))
