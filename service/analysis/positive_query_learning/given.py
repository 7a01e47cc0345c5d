"""What callers send, checked and turned into arrays and masks."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from service.analysis.frame import AnalysisError
from service.analysis.positive_query_learning.boolean import Vectors, covered, satisfies
from service.analysis.positive_query_learning.dialogue import Asked, Dialogue, Point
from service.analysis.positive_query_learning.exact import Points
from service.analysis.positive_query_learning.finite import Finite
from service.analysis.positive_query_learning.schema import DIMENSION_LIMIT, PositiveQueryRequest, Target

MAX_QUERIES = 10_000
CONFLICT = "inconsistent_oracle"


def conflict(field: str, message: str) -> AnalysisError:
    """Labels contradict one another or the class: noise is outside the model and is never averaged away."""
    return AnalysisError(field, message, status=409, code=CONFLICT)


def points(rows: Sequence[list[float] | int], field: str, width: int | None = None) -> Points:
    """Rows of one width.

    Raises:
        AnalysisError: They differ, or are elements of a finite domain.
    """
    vectors = [row for row in rows if isinstance(row, list)]
    if len(vectors) < len(rows):
        raise AnalysisError(field, "must hold lists of numbers for this concept_class")
    widths = {len(row) for row in vectors} | ({width} if width is not None else set())
    if len(widths) > 1:
        raise AnalysisError(field, f"all points must have {width or len(vectors[0])} coordinates")
    return np.array(vectors, dtype=float).reshape(len(vectors), max(widths, default=0))


def halfspace_points(rows: Sequence[list[float] | int], field: str, width: int | None = None) -> Points:
    """Points of at most 32 coordinates."""
    found = points(rows, field, width)
    if found.shape[1] > DIMENSION_LIMIT:
        raise AnalysisError(field, f"at most {DIMENSION_LIMIT} coordinates for a halfspace")
    return found


def vectors(rows: Sequence[list[float] | int], field: str, width: int | None = None) -> Vectors:
    """Vectors of zeros and ones."""
    found = points(rows, field, width)
    if not np.isin(found, (0.0, 1.0)).all():
        raise AnalysisError(field, "must hold zeros and ones only for this concept_class")
    return found.astype(bool)


def members(rows: Sequence[list[float] | int], field: str, domain: int) -> list[int]:
    """Elements of a finite domain."""
    found = [row for row in rows if isinstance(row, int)]
    if len(found) < len(rows) or any(element >= domain for element in found):
        raise AnalysisError(field, f"must hold elements 0 to {domain - 1} for this concept_class")
    return found


def finite_class(domain: int, concepts: list[list[int]]) -> Finite:
    """The class; concepts must be different subsets of the domain."""
    masks = [sum({1 << element for element in concept}) for concept in concepts]
    if any(element >= domain for concept in concepts for element in concept):
        raise AnalysisError("concepts", f"a concept holds an element that is not one of 0 to {domain - 1}")
    if len(set(masks)) < len(masks):
        raise AnalysisError("concepts", "two of them are the same set")
    return Finite(domain, masks)


def dialogue(request: PositiveQueryRequest, target: Callable[[Point], bool] | None) -> Dialogue:
    """With the request's budget and answers."""
    answers = [Asked(one.query_id, one.point, one.label) for one in request.answers or []]
    limit = MAX_QUERIES if request.max_queries is None else request.max_queries
    return Dialogue(limit, answers, target)


def halfspace_target(target: Target, width: int) -> Callable[[Point], bool]:
    """w·x ≥ b, decided in float64 where that is certain and in rationals otherwise."""
    assert target.normal is not None
    assert target.offset is not None
    normal, offset = np.array(target.normal), target.offset
    if len(normal) != width:
        raise AnalysisError("oracle.normal", f"must have {width} entries, as the points have")
    if not normal.any():
        raise AnalysisError("oracle.normal", "is zero")
    exact = [Fraction(number) for number in target.normal]

    def holds(point: Point) -> bool:
        assert isinstance(point, list)
        terms = normal * np.array(point)
        value, size = float(terms.sum() - offset), float(np.abs(terms).sum() + abs(offset))
        if abs(value) > 1e-12 * size:
            return value > 0
        return sum((a * Fraction(b) for a, b in zip(exact, point, strict=True)), start=Fraction(0)) >= Fraction(offset)

    return holds


def boolean_target(target: Target, width: int) -> Callable[[Point], bool]:
    """A conjunction of clauses, or a disjunction of terms."""
    field = "clauses" if target.clauses is not None else "terms"
    formula = [[*part] for part in target.clauses or target.terms or []]
    if any(abs(one) > width or one == 0 for part in formula for one in part):
        raise AnalysisError(f"oracle.{field}", f"variables are counted from 1 to {width}")
    if target.clauses is not None:
        clauses = [tuple(clause) for clause in formula]
        return lambda point: bool(satisfies(clauses, np.array([point], dtype=bool))[0])
    return lambda point: bool(covered(formula, np.array([point], dtype=bool))[0])


def finite_target(target: Target, finite: Finite) -> Callable[[Point], bool]:
    """One of the concepts."""
    assert target.concept is not None
    if target.concept >= len(finite.concepts):
        raise AnalysisError("oracle.concept", f"at most {len(finite.concepts) - 1}")
    mask = finite.concepts[target.concept]
    return lambda point: isinstance(point, int) and bool(mask >> point & 1)


def check_positives(examples: Sequence[Point], target: Callable[[Point], bool] | None) -> None:
    """Refuse positives that the oracle says are none."""
    if target is None:
        return
    for number, example in enumerate(examples):
        if not target(example):
            raise conflict("positive_examples", f"the oracle says that number {number} is negative")
