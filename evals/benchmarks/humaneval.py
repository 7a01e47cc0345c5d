"""HumanEval: 164 Python functions to complete, graded by running their tests in the sandbox."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.data import Source, json_lines, read
from evals.graders.code import STOPS, code_blocks, continued, definition, from_chat, released_program
from evals.grading import Grading
from evals.problem import DataSet, Defaults, Problem, Prompt, Style, Verdict
from evals.prompts import Template, from_template, refuse
from evals.sandbox import Outcome, Program

REVISION = "6d43fb980f9fee3c892a914eda09951f772ad10d"
SOURCE = Source(
    "humaneval",
    "humaneval.jsonl.gz",
    "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
    f"https://raw.githubusercontent.com/openai/human-eval/{REVISION}/data/HumanEval.jsonl.gz",
    "openai/human-eval",
    REVISION,
    upstream_names=("HumanEval.jsonl.gz",),
)
INSTRUCTION = (
    "Complete the Python function below. Reply with the whole function, imports included, in one code block that opens "
    "with ```python, and nothing after it."
)
EXAMPLES = '''def count_vowels(text: str) -> int:
    """ How many letters of text are vowels, in either case?
    >>> count_vowels("Oboe")
    3
    """
    return sum(letter in "aeiou" for letter in text.lower())


def running_total(values: list) -> list:
    """ The sums of the first one, two, three ... values.
    >>> running_total([2, 5, -1])
    [2, 7, 6]
    """
    totals, total = [], 0
    for value in values:
        total += value
        totals.append(total)
    return totals


'''
"""Worked examples of the few-shot prompt, made up for this project."""

DEFAULTS = Defaults(max_tokens=512, alpha=5.0, paper_max_tokens=3072)


@dataclass(frozen=True)
class HumanEval:
    """The benchmark; see `evals.benchmarks.Benchmark`."""

    source: Source = SOURCE
    name: str = "humaneval"
    defaults: Defaults = DEFAULTS
    runs_code: bool = True

    def load(self, folder: Path | None = None) -> DataSet:
        """The 164 functions."""
        rows = json_lines(gzip.decompress(read(self.source, folder)))
        return self.source.data_set(tuple(map(self._problem, rows)))

    def _problem(self, row: dict[str, Any]) -> Problem:
        extra = {"entry_point": row["entry_point"], "tests": row["test"]}
        return Problem(row["task_id"], self.name, row["prompt"], row["canonical_solution"], extra)

    def prompt(self, problem: Problem, style: Style | Template, seed: int) -> Prompt:
        """The bare stub to continue, in the paper's style; nothing is shuffled, so the seed does not matter."""
        if isinstance(style, Template):
            values, required = {"question": problem.question}, frozenset({"question"})
            return from_template(style, self.name, values, required, gold="", record={}, stops=STOPS)
        if style == "paper":
            return Prompt(text=problem.question, stops=STOPS, style=style)
        if style == "few-shot":
            return Prompt(text=EXAMPLES + problem.question, stops=STOPS, style=style)
        if style == "chat":
            asked = f"{INSTRUCTION}\n\n```python\n{problem.question.rstrip()}\n```"
            return Prompt(messages=({"role": "user", "content": asked},), style=style)
        raise refuse(style, self.name)

    async def grade(self, problem: Problem, prompt: Prompt, answer: str, grading: Grading) -> Verdict:
        """By the tests, in the sandbox. Where the released code would take another program, that is run beside it."""
        stub, entry_point = problem.question, problem.extra["entry_point"]
        solution = program_in(stub, entry_point, prompt.style, answer)
        outcome = await grading.check(program(problem, solution))
        others: dict[str, bool] = {}
        if prompt.style != "chat":
            released = released_program(stub, entry_point, answer)
            beside = outcome if released == solution else await grading.check(program(problem, released))
            if beside.status != "broken":
                others["paper"] = beside.status == "passed"
        return verdict(outcome, solution, others)


def program_in(stub: str, entry_point: str, style: str, answer: str) -> str:
    """The program that an answer means: a chat's code block, or the stub continued.

    Under a template of the user's own, an answer that has a code block or defines the function is read as a chat's.
    """
    whole = style == "template" and (definition(entry_point).search(answer) or any(code_blocks(answer)))
    return from_chat(stub, entry_point, answer) if style == "chat" or whole else continued(stub, answer)


def program(problem: Problem, solution: str) -> Program:
    """A solution with the problem's tests. The stub's own helpers are there for tests that use them."""
    entry_point = problem.extra["entry_point"]
    tests = f"{problem.extra['tests']}\ncheck({entry_point})\n"
    return Program(solution, entry_point, f"{problem.question}\n    pass\n", tests)


def verdict(outcome: Outcome, solution: str, others: dict[str, bool]) -> Verdict:
    """What the sandbox found, as a verdict; the program stands in it by its hash."""
    status = {"passed": "correct", "rejected": "incorrect", "broken": "failed"}[outcome.status]
    digest = hashlib.sha256(solution.encode("utf-8", "surrogatepass")).hexdigest()
    return Verdict(status, digest, "tests", outcome.detail, others)  # type: ignore[arg-type]


HUMANEVAL = HumanEval()
