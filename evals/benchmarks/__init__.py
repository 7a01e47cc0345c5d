"""The benchmarks: one file and one registry line each.

A benchmark knows how to load its problems, how to ask them and how to grade an answer; it knows nothing of models,
servers or records. `tests/evals/test_benchmarks.py` holds files and registry lines together and shows that gold
answers are graded right and wrong ones wrong.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from evals.benchmarks.aime import AIME24, AIME25, AIME26
from evals.benchmarks.gpqa import GPQA
from evals.benchmarks.humaneval import HUMANEVAL
from evals.benchmarks.math500 import MATH500
from evals.data import Source
from evals.grading import Grading
from evals.problem import DataSet, Defaults, Problem, Prompt, Style, Verdict
from evals.prompts import Template


class Benchmark(Protocol):
    """What every benchmark gives a run."""

    @property
    def name(self) -> str:
        """As on the command line and in records."""
        ...

    @property
    def source(self) -> Source:
        """Its file: hash, origin and revision."""
        ...

    @property
    def defaults(self) -> Defaults:
        """What it is run with where nothing else is said."""
        ...

    @property
    def runs_code(self) -> bool:
        """Whether grading runs model-written code; then `Grading.prepare` refuses early where no sandbox works."""
        ...

    def load(self, folder: Path | None = None) -> DataSet:
        """Read the problems from a data folder (None: the user's own, `evals.data.default_folder()`).

        Raises:
            DataMissing: The file is not there; the text says how to bring it.
            DataMismatch: It is not the pinned file.
        """
        ...

    def prompt(self, problem: Problem, style: Style | Template, seed: int) -> Prompt:
        """How the problem is asked.

        Args:
            problem: One of this benchmark's.
            style: A built-in wording, or the user's own template.
            seed: Fixes what is shuffled (GPQA's options), together with the problem's id and nothing else: not the
                order of the problems. Give each repeat its own seed if options shall be shuffled anew.
        """
        ...

    async def grade(self, problem: Problem, prompt: Prompt, answer: str, grading: Grading) -> Verdict:
        """Grade one answer.

        Args:
            problem: The problem.
            prompt: The prompt it answers (made again from problem, style and seed when old records are graded).
            answer: The text the server sent, without the prompt.
            grading: Owns the worker processes and the sandbox.
        """
        ...


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "math500": MATH500,
        "humaneval": HUMANEVAL,
        "gpqa": GPQA,
        "aime24": AIME24,
        "aime25": AIME25,
        "aime26": AIME26,
    }
)
"""Every benchmark by its name on the command line."""
