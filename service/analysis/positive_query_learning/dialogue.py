"""Asking membership queries of somebody who is not there: answers are replayed, and missing ones end the run."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from service.analysis.frame import AnalysisError

Point = list[float] | int
CLOSE = 1e-9
"""A replayed point may differ by this share: another processor's last digits."""


class Asked(NamedTuple):
    """A query and its answer."""

    query_id: int
    point: Point
    label: bool


class Query(NamedTuple):
    """A query without an answer yet."""

    query_id: int
    point: Point


class NeedsAnswers(Exception):
    """The strategy cannot go on without these."""

    def __init__(self, queries: list[Query]) -> None:
        super().__init__(f"{len(queries)} answers are missing")
        self.queries = queries


class OutOfQueries(Exception):
    """The budget ends."""


class Dialogue:
    """Answers membership queries from a target, or from the answers sent so far.

    Args:
        limit: Most queries.
        answers: Those sent so far.
        target: The concept, for demonstrations; None to replay.
    """

    def __init__(
        self, limit: int, answers: Sequence[Asked] = (), target: Callable[[Point], bool] | None = None
    ) -> None:
        self.limit, self.target = limit, target
        self._answers = {one.query_id: one for one in answers}
        if len(self._answers) < len(answers):
            raise AnalysisError("answers", "a query_id occurs twice")
        self.asked: list[Asked] = []

    def ask(self, points: Sequence[Point]) -> list[Asked]:
        """Each point's label, with the point that it was given for.

        Raises:
            NeedsAnswers: Some are missing: all of this batch that are.
            OutOfQueries: The batch does not fit into the budget.
        """
        first = len(self.asked)
        if first + len(points) > self.limit:
            raise OutOfQueries
        batch = [Query(first + number, point) for number, point in enumerate(points)]
        missing = [query for query in batch if self.target is None and query.query_id not in self._answers]
        found = [self._answer(query) for query in batch if query not in missing]
        if missing:
            raise NeedsAnswers(missing)
        self.asked += found
        return found

    def _answer(self, query: Query) -> Asked:
        if self.target is not None:
            return Asked(query.query_id, query.point, self.target(query.point))
        answer = self._answers[query.query_id]
        if not _same(answer.point, query.point):
            raise AnalysisError("answers", f"query {query.query_id} was asked at another point")
        return answer

    def finish(self, pending: int = 0) -> None:
        """Refuse answers to what was never asked.

        Args:
            pending: Queries asked now: some of their batch may have been answered already.
        """
        asked = {one.query_id for one in self.asked}
        unknown = sorted(set(self._answers) - asked)
        if unknown and unknown[-1] >= len(self.asked) + pending:
            raise AnalysisError("answers", f"query {unknown[-1]} was never asked")


def _same(given: Point, asked: Point) -> bool:
    if isinstance(given, int) or isinstance(asked, int):
        return given == asked
    if len(given) != len(asked):
        return False
    size = max((abs(number) for number in asked), default=0.0)
    return bool(np.allclose(given, asked, rtol=CLOSE, atol=CLOSE * size))
