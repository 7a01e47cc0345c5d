"""A made-up benchmark for the letters table; `python -m tests.evals.made_up` is `powercut-eval` with it."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from evals import options
from evals.cli import main
from evals.data import Source
from evals.grading import Grading
from evals.problem import DataSet, Defaults, Problem, Prompt, Style, Verdict
from evals.prompts import Template


class Letters:
    """Which letter comes first? An answer is right if it begins with its problem's letter."""

    source = Source("letters", "letters.txt", "", "", "made up here", "1")
    name = "letters"
    defaults = Defaults(max_tokens=4, alpha=4.0, paper_max_tokens=8)
    runs_code = False

    def __init__(self, count: int = 120, chat: bool = False) -> None:
        self.count, self.chat = count, chat

    def load(self, folder: Path | None = None) -> DataSet:
        problems = tuple(
            Problem(f"letters/{i}", self.name, f"Question {i}?", "ab"[i % 2], {"place": i}) for i in range(self.count)
        )
        digest = hashlib.sha256(str(self.count).encode()).hexdigest()
        return DataSet(self.name, problems, digest, "made up here", "1")

    def prompt(self, problem: Problem, style: Style | Template, seed: int) -> Prompt:
        text = f"{problem.question} Answer:"
        if isinstance(style, Template):
            text = style.fill(self.name, frozenset({"question"}), {"question": problem.question})
        prompt = Prompt(text=text, stops=("bb",), style=style if isinstance(style, str) else "template", gold="x")
        return replace(prompt, text=None, messages=({"role": "user", "content": text},)) if self.chat else prompt

    async def grade(self, problem: Problem, prompt: Prompt, answer: str, grading: Grading) -> Verdict:
        if answer == "ungradable":
            return Verdict("failed", None, "letters 1", "time-out")
        right = answer.startswith(problem.answer)
        return Verdict("correct" if right else "incorrect", answer[:1] or None, "letters 1", others={"strict": right})


def register(benchmark: Letters) -> None:
    """Make the command know it, in this process."""
    options.BENCHMARKS = {**options.BENCHMARKS, benchmark.name: benchmark}


if __name__ == "__main__":
    register(Letters())
    sys.exit(main())
