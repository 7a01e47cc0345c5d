"""Verdicts on mathematical answers: math-verify decides, and the paper-compatible rules stand beside it."""

from importlib.metadata import version
from typing import Any

from evals.graders.boxed import last_boxed
from evals.graders.workers import WorkerDied, WorkerLate, Workers
from evals.problem import EXTRACTED_CHARS, Verdict

MATH_VERIFY = f"math-verify {version('math-verify')}, 9 decimals, bases"
"""Its version and what `math_worker.by_math_verify` adds."""
TAIL_CHARS = 2000
"""Of a text without a box, math-verify looks for an answer in the end only."""


async def grade_maths(gold: str, text: str, workers: Workers) -> Verdict:
    r"""Grade the last `\boxed{…}`, or without one what math-verify finds in the text's end.

    A grader that does not finish (`9^{9^{9^{9}}}`) is killed. If that is math-verify the verdict is "failed": nobody
    has said that the answer is wrong. If it is the paper-compatible one, `others` lacks it.
    """
    content = last_boxed(text)
    if content is not None and len(content) > EXTRACTED_CHARS:
        return Verdict("incorrect", content[:EXTRACTED_CHARS], MATH_VERIFY, "longer than any answer", {"paper": False})
    others: dict[str, bool] = {}
    said = await _ask(workers, "paper", gold, content) if content is not None else {"correct": False}
    if "correct" in said:
        others["paper"] = said["correct"]
    said = await _ask(workers, "math-verify", gold, text[-TAIL_CHARS:] if content is None else f"\\boxed{{{content}}}")
    extracted = content if content is not None else said.get("extracted")
    if "error" in said:
        return Verdict("failed", extracted, MATH_VERIFY, said["error"], others)
    if said["correct"]:
        return Verdict("correct", extracted, MATH_VERIFY, "", others)
    return Verdict("incorrect", extracted, MATH_VERIFY, "" if extracted else "no answer found", others)


async def _ask(workers: Workers, grader: str, gold: str, given: str) -> dict[str, Any]:
    try:
        return await workers.ask(grader, gold, given)
    except (WorkerLate, WorkerDied) as error:
        return {"error": str(error)}
