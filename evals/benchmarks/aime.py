"""AIME I and II of 2024, 2025 and 2026: 30 problems a year whose answers are integers from 0 to 999.

The questions are the Mathematical Association of America's; the files come from public compilations, and the wording
differs between copies.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.data import Source, as_json_lines, json_lines, read
from evals.graders.boxed import last_boxed
from evals.graders.integer import extract_integer
from evals.graders.released_rules import equal_by_rules
from evals.grading import Grading
from evals.mathematics import mathematics_prompt
from evals.problem import EXTRACTED_CHARS, DataSet, Defaults, Problem, Prompt, Style, Verdict
from evals.prompts import Template

QWEN = "a45202bd16f1ec06f433442dc1152d0074773465"
LLM_EVAL = "66572ad3f66078c376d777866f6535d3f334b0c8"
RAW = "https://raw.githubusercontent.com"
ASKED = "\nPlease reason step by step, and put your final answer within \\boxed{}."
"""What one compilation has put at the end of every question."""


def from_qwen(raw: bytes) -> bytes:
    """The 2024 file as Qwen2.5-Math has it, in the contests' order and without solutions."""

    def place(row: dict[str, Any]) -> tuple[str, int]:
        found = re.search(r"_(I{1,2})_Problems/Problem_(\d{1,2})$", row["url"])
        if found is None:
            raise ValueError("a row's url names no problem")
        return found[1], int(found[2])

    def kept(row: dict[str, Any]) -> dict[str, Any]:
        contest, number = place(row)
        name = f"2024-{contest}-{number:02d}"
        return {"id": name, "problem": row["problem"], "answer": str(int(row["answer"])), "url": row["url"]}

    return as_json_lines([kept(row) for row in sorted(json_lines(raw), key=place)])


def from_llm_eval(year: int) -> Callable[[bytes], bytes]:
    """A year's file as LLMEval has it, without the instruction that it adds to every question."""

    def convert(raw: bytes) -> bytes:
        rows: list[dict[str, Any]] = []
        for index, row in enumerate(json_lines(raw)):
            contest, number = ("I", index + 1) if index < 15 else ("II", index - 14)
            name = f"{year}-{contest}-{number:02d}"
            rows.append({"id": name, "problem": row["prompt"].removesuffix(ASKED), "answer": str(row["answer"])})
        return as_json_lines(rows)

    return convert


DEFAULTS = Defaults(max_tokens=2048, alpha=4.0, paper_max_tokens=6144)


@dataclass(frozen=True)
class Aime:
    """One year's benchmark; see `evals.benchmarks.Benchmark`."""

    source: Source
    defaults: Defaults = DEFAULTS
    runs_code: bool = False

    @property
    def name(self) -> str:
        """Such as "aime26"."""
        return self.source.benchmark

    def load(self, folder: Path | None = None) -> DataSet:
        """The 30 problems."""
        rows = json_lines(read(self.source, folder))
        return self.source.data_set(
            tuple(Problem(r["id"], self.name, r["problem"], str(int(r["answer"]))) for r in rows)
        )

    def prompt(self, problem: Problem, style: Style | Template, seed: int) -> Prompt:
        """As in MATH500; nothing is shuffled, so the seed does not matter."""
        return mathematics_prompt(problem, style)

    async def grade(self, problem: Problem, prompt: Prompt, answer: str, grading: Grading) -> Verdict:
        """By integer, without any process; by the paper-compatible rules beside it, which need no algebra here."""
        number, words = extract_integer(answer)
        others = {"paper": equal_to_released(problem.answer, last_boxed(answer))}
        extracted = words[:EXTRACTED_CHARS] if words is not None else None
        status = "correct" if number == int(problem.answer) else "incorrect"
        detail = "" if number is not None else "no integer found"
        return Verdict(status, extracted, "integer", detail, others)


def equal_to_released(gold: str, content: str | None) -> bool:
    """As the released code grades AIME: its rules for mathematics, then truncation to an integer.

    Where both are integers and differ, algebra would not make them equal, so its share is left out.
    """
    if equal_by_rules(gold, content):
        return True
    try:
        return content is not None and len(content) <= EXTRACTED_CHARS and int(float(content)) == int(gold)
    except (ValueError, OverflowError):
        return False


AIME24 = Aime(
    Source(
        "aime24",
        "aime2024.jsonl",
        "f200d529c7bede0f636fc6286b76a19291d5e251018159ca201a485f620e60fd",
        f"{RAW}/QwenLM/Qwen2.5-Math/{QWEN}/evaluation/data/aime24/test.jsonl",
        "QwenLM/Qwen2.5-Math",
        QWEN,
        "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac",
        from_qwen,
    )
)
AIME25 = Aime(
    Source(
        "aime25",
        "aime2025.jsonl",
        "f663e4c52abe542c8f9621dc18cdf039f46f222d05dab1037260a2bf431ce3fc",
        f"{RAW}/jianzhnie/LLMEval/{LLM_EVAL}/data/aime25.jsonl",
        "jianzhnie/LLMEval",
        LLM_EVAL,
        "9da60057135388687f3c594476b211538d0be8e7f3b2de6e680513281412c0ec",
        from_llm_eval(2025),
        ("aime25.jsonl",),
    )
)
AIME26 = Aime(
    Source(
        "aime26",
        "aime2026.jsonl",
        "6b34d8dc76d2280181bb8d6e94ac45af9d191025a867afb45f31e8287d2ab429",
        f"{RAW}/jianzhnie/LLMEval/{LLM_EVAL}/data/aime26.jsonl",
        "jianzhnie/LLMEval",
        LLM_EVAL,
        "31fa88574e75103bcfee15811fec860aabd727af5cfe9327756305dbed8f5d70",
        from_llm_eval(2026),
        ("aime26.jsonl",),
    )
)
