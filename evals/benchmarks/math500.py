"""MATH500: 500 problems of the MATH test set, graded by math-verify with the paper-compatible rules beside it."""

from dataclasses import dataclass
from pathlib import Path

from evals.data import Source, json_lines, read
from evals.graders.maths import grade_maths
from evals.grading import Grading
from evals.mathematics import mathematics_prompt
from evals.problem import DataSet, Defaults, Problem, Prompt, Style, Verdict
from evals.prompts import Template

REVISION = "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"
SOURCE = Source(
    "math500",
    "math500.jsonl",
    "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
    f"{{hub}}/datasets/HuggingFaceH4/MATH-500/resolve/{REVISION}/test.jsonl",
    "HuggingFaceH4/MATH-500",
    REVISION,
    upstream_names=("test.jsonl",),
)

KEPT = ("subject", "level")
DEFAULTS = Defaults(max_tokens=1024, alpha=4.0, paper_max_tokens=3072)


@dataclass(frozen=True)
class Math500:
    """The benchmark; see `evals.benchmarks.Benchmark`."""

    source: Source = SOURCE
    name: str = "math500"
    defaults: Defaults = DEFAULTS
    runs_code: bool = False

    def load(self, folder: Path | None = None) -> DataSet:
        """The 500 problems."""
        rows = json_lines(read(self.source, folder))
        problems = tuple(
            Problem(
                row["unique_id"], self.name, row["problem"], row["answer"], {k: row[k] for k in ("subject", "level")}
            )
            for row in rows
        )
        return self.source.data_set(problems)

    def prompt(self, problem: Problem, style: Style | Template, seed: int) -> Prompt:
        """Nothing is shuffled here, so the seed does not matter."""
        return mathematics_prompt(problem, style)

    async def grade(self, problem: Problem, prompt: Prompt, answer: str, grading: Grading) -> Verdict:
        """By math-verify; by the paper-compatible rules beside it."""
        return await grade_maths(problem.answer, answer, grading.workers)


MATH500 = Math500()
