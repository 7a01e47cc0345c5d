"""What the probes do, in the child process."""

import math
import os
import time
from pathlib import Path

from matplotlib.figure import Figure

from service.analysis.frame import AnalysisError, Context, Notice
from tests.analysis.probes import ProbeRequest, ProbeResponse


def compute(request: ProbeRequest, context: Context) -> ProbeResponse:
    if request.pid_file is not None:
        path = Path(request.pid_file)
        path.with_suffix(".part").write_text(str(os.getpid()))
        path.with_suffix(".part").rename(path)
    number = 0.0
    match request.action:
        case "draw_number":
            number = 0.0 if context.seed is None else float(context.rng.random())
        case "hang":
            time.sleep(3600)
        case "die":
            os._exit(3)
        case "print":
            print("a library says hello")
        case "not_a_number":
            number = math.nan
        case "much_memory":
            number = float(len(bytearray(1 << 40)))
        case "raise":
            raise KeyError("secret detail")
        case "refuse":
            raise AnalysisError("scale", "is not what it should be; at most 10")
        case "conflict":
            raise AnalysisError("scale", "contradicts itself", status=409, code="inconsistent_oracle")
        case "report":
            for done in range(5):
                context.report(done / 4, f"part {done}")
    notices = [Notice(code="probe", message="only a probe")]
    return ProbeResponse(
        method=request.action, seed=context.seed, warnings=notices, number=number * request.scale, pid=os.getpid()
    )


def draw(request: ProbeRequest, response: ProbeResponse) -> Figure:
    figure = Figure()
    figure.subplots().plot([0, 1], [0, response.number])
    return figure
