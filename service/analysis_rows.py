"""Rows of batches that ask for an analysis."""

from typing import Any

from service.analysis.analyst import PREFIX, Analyst, Caller
from service.analysis.frame import Analysis
from service.jobs.handlers import RowContext, RowHandler
from service.jobs.outcome import row_seed


def analysis_rows(analyst: Analyst) -> dict[str, RowHandler]:
    """A handler for each analysis, by its url."""
    return {PREFIX + name: rows_of(analyst, analysis) for name, analysis in analyst.analyses.items()}


def rows_of(analyst: Analyst, analysis: Analysis[Any, Any]) -> RowHandler:
    """Rows of one analysis. A row that runs again has the same seed, or gets the release that it was charged for."""

    async def answer(body: dict[str, Any], context: RowContext) -> dict[str, Any]:
        seed = {"seed": row_seed(context.key, 0)} if analysis.seeded and body.get("seed") is None else {}
        caller = Caller(context.owner, f"{context.key.batch_id}/{context.key.number}")
        return await analyst.analyse(analysis.name, body | seed, caller=caller)

    return answer
