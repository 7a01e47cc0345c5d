"""One analysis from request to bytes, in whatever process it is called."""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

from service.analysis.described import described
from service.analysis.frame import About, Analysis, AnalysisRequest, Context
from service.seed import drawn_seed

DPI = 110


class Outcome(NamedTuple):
    """A reply as JSON, and its picture as PNG if it was asked for."""

    reply: bytes
    picture: bytes | None


def choose_seed(analysis: Analysis[Any, Any], request: AnalysisRequest) -> int | None:
    """The request's seed, or a drawn one; None for an analysis without seeds."""
    if not analysis.seeded:
        return None
    given = getattr(request, "seed", None)
    return drawn_seed() if given is None else given


def run(
    analysis: Analysis[Any, Any],
    request: AnalysisRequest,
    seed: int | None,
    *,
    picture: bool = False,
    progress: Callable[[float, str], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    about: About | None = None,
) -> Outcome:
    """Compute the reply, and draw it if wished.

    Raises:
        AnalysisError: The request cannot be answered.
        Cancelled: `is_cancelled` said so.
    """
    work = analysis.load()
    response = work.compute(request, Context(seed, progress, is_cancelled, about))
    if not isinstance(response, analysis.response):
        raise TypeError(f"{analysis.name} replied with {type(response).__name__}")
    png: bytes | None = None
    if picture:
        buffer = io.BytesIO()
        figure = work.draw(request, response)
        about_it = {"Title": analysis.name, "Comment": f"seed {seed}", "Description": described(figure)}
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": "powercut", **about_it})
        png = buffer.getvalue()
    return Outcome(response.model_dump_json().encode(), png)
