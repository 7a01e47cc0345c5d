"""A real benchmark through the whole harness: prompts, server, sandbox, records, report."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from evals.benchmarks import BENCHMARKS
from evals.records import Key
from evals.report.summary import Level
from evals.report.write import write_report
from evals.session import Plan
from tests.evals.running import QUICK, STANDARD, carry
from tests.evals.servers import Scripted, completion, served

COUNT = 8


def humaneval(url: str, output: Path, data: Path) -> Plan:
    return Plan(BENCHMARKS["humaneval"], (STANDARD,), None, url, None, output, limit=COUNT, data=data, patience=QUICK)


@pytest.mark.slow
@pytest.mark.usefixtures("bubblewrap")
def test_reference_solutions_pass_and_broken_ones_fail(data_folder: Path, tmp_path: Path) -> None:
    problems = BENCHMARKS["humaneval"].load(data_folder).problems[:COUNT]
    solutions = {each.question: each.answer for each in problems}

    def solve(body: dict[str, Any]) -> Response:
        index = list(solutions).index(body["prompt"])
        text = solutions[body["prompt"]] if index % 2 == 0 else "    return object()\n"
        return JSONResponse(completion(text))

    server = Scripted(otherwise=solve)
    with served(server.app) as url:
        found = carry(humaneval(url, tmp_path / "run", data_folder))
        assert carry(humaneval(url, tmp_path / "run", data_folder)) == found, "settings are the same in another process"
    assert len(server.bodies) == COUNT
    for index, problem in enumerate(problems):
        verdict = found[Key("standard", problem.id, 0)]["verdict"]
        assert verdict["status"] == ("correct" if index % 2 == 0 else "incorrect"), verdict
    write_report([tmp_path / "run"], tmp_path, Level())
    (section,) = json.loads((tmp_path / "report.json").read_text())["benchmarks"]
    assert section["arms"][0]["accuracy"]["value"] == 0.5
    assert section["data"]["sha256"] == BENCHMARKS["humaneval"].source.sha256
