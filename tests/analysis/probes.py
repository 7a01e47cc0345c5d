"""An analysis that does what a test tells it: the frame is tested with it, in real child processes."""

from typing import Annotated, Any, Literal

from pydantic import Field

from service.analysis.frame import Analysis, AnalysisResponse, Paper, SeededRequest


class ProbeRequest(SeededRequest):
    action: Literal[
        "draw_number", "hang", "die", "print", "not_a_number", "much_memory", "raise", "refuse", "conflict", "report"
    ] = "draw_number"
    pid_file: Annotated[str | None, Field(max_length=1000)] = None
    scale: Annotated[float, Field(ge=0, le=10)] = 1.0


class ProbeResponse(AnalysisResponse):
    number: float
    pid: int


def probe(name: str, **more: Any) -> Analysis[ProbeRequest, ProbeResponse]:
    return Analysis(
        name,
        Paper("On probes", "0000.00000"),
        "Does as it is told",
        ProbeRequest,
        ProbeResponse,
        "tests.analysis.probe_work",
        {"seed": 3},
        **more,
    )


PROBES: dict[str, Analysis[Any, Any]] = {
    "probe": probe("probe"),
    "probe/long": probe("probe/long", job_only=True),
    "probe/own": probe("probe/own", own_process=True),
    "probe/unseeded": probe("probe/unseeded", seeded=False),
}
