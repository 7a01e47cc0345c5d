"""Wrong answers made from gold ones, and broken programs made from right ones, by one stated rule each."""

import re

WORD = re.compile(r"\\text\{[^{}]*\}")

UNIT = re.compile(r"\\(?:mbox|text)\{ ")


def perturbed(gold: str) -> str:
    """A wrong answer close to the gold one: its last number is one more; without a number, a word is another word.

    What has neither (π, p − q) gets one more. A unit after the number (`\\mbox{ cm}^2`) is left as it is.
    """
    numbers = list(re.finditer(r"\d+", UNIT.split(gold)[0]))
    if numbers:
        last = numbers[-1]
        raised = str(int(last[0]) + 1).rjust(len(last[0]), "0")
        return gold[: last.start()] + raised + gold[last.end() :]
    if WORD.search(gold):
        return WORD.sub(lambda _: "\\text{another}", gold)
    return f"{gold} + 1"


BREAK = """

_right = {entry_point}


def _broken(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "?"
    if isinstance(value, (list, tuple)):
        return type(value)([*value, None])
    return 0 if value is None else None


def {entry_point}(*given, **named):
    return _broken(_right(*given, **named))
"""


def broken(solution: str, entry_point: str) -> str:
    """A right program whose every result is spoiled a little: it runs, and has to be found out by the tests."""
    return solution + BREAK.format(entry_point=entry_point)
