"""The maths worker: a process that reads one request a line and answers it, until its input ends or it is killed.

It runs as `python -m evals.graders.math_worker`. Computer algebra may take for ever on a short text, so the harness
kills this process at its time limit; an alarm does the same where the harness itself is gone.
"""

import json
import os
import re
import resource
import signal
import sys
from typing import Any, TextIO

from math_verify import parse, verify
from sympy import simplify
from sympy.parsing import sympy_parser

from evals.graders.released_rules import algebra_pairs, equal_by_rules

MEMORY_BYTES = 4 << 30
DECIMALS = 9
BASE = re.compile(r"(?<=[0-9A-F])_\{?(\d{1,3})")
NO_LIMIT: Any = None
"""Turns the library's own time-outs off; its annotations do not know of it."""


def main() -> None:
    """Answer requests `{"grader", "gold", "given", "limit_s"}` with `{"correct", "extracted"}` or `{"error"}`."""
    answers = private_output()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    say(answers, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(int(request["limit_s"]) + 5)
        try:
            reply = GRADERS[request["grader"]](request["gold"], request["given"])
        except Exception as error:  # the library raises of every kind on text that no one foresaw
            reply = {"error": f"{type(error).__name__}: {error}"[:200]}
        signal.alarm(0)
        say(answers, reply)


def private_output() -> TextIO:
    """The pipe to the harness, out of reach of anything that a library prints."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def say(answers: TextIO, reply: dict[str, Any]) -> None:
    """One line."""
    answers.write(json.dumps(reply) + "\n")
    answers.flush()


def by_math_verify(gold: str, given: str) -> dict[str, Any]:
    """math-verify's judgement, gold first, its own time-outs off: they need a main thread and hide what hung.

    Two of its liberties are taken back, each of which accepts a wrong answer on MATH500: it compares six decimals only
    (`.0000672` is `.0000673` to it), and it does not read the base of a number (`52_8` is `52_9`).
    """
    wanted = parse(f"${gold}$", parsing_timeout=NO_LIMIT)
    found = parse(given, parsing_timeout=NO_LIMIT)
    extracted = str(found[-1])[:1000] if found else None
    if other_base(gold, extracted or ""):
        return {"correct": False, "extracted": extracted}
    equal = verify(wanted, found, float_rounding=DECIMALS, timeout_seconds=NO_LIMIT)
    return {"correct": bool(equal), "extracted": extracted}


def other_base(gold: str, given: str) -> bool:
    """Whether both name the bases of their numbers, and these differ. An answer may leave the base to the question."""
    wanted, found = BASE.findall(gold), BASE.findall(given)
    return bool(wanted and found) and wanted != found


def by_released_rules(gold: str, given: str) -> dict[str, Any]:
    """The released grader's judgement: its rules, then algebra on what they leave open."""
    decided = equal_by_rules(gold, given)
    if decided is None:
        decided = all(equal_by_algebra(wanted, found) for wanted, found in algebra_pairs(gold, given))
    return {"correct": decided, "extracted": given}


def equal_by_algebra(wanted: str, found: str) -> bool:
    """Whether the difference simplifies to zero. What cannot be parsed is not equal, as in the released grader."""
    rules = (*sympy_parser.standard_transformations, sympy_parser.implicit_multiplication_application)
    try:
        difference = sympy_parser.parse_expr(f"({wanted})-({found})".replace("^", "**"), transformations=rules)
        return bool(simplify(difference) == 0)
    except Exception:
        return False


GRADERS = {"math-verify": by_math_verify, "paper": by_released_rules}

if __name__ == "__main__":
    main()
