r"""The rules of the paper's released maths grader, in code of our own, to compare with published numbers.

The released grader descends from prm800k's, and that from Hendrycks's MATH: two ways of normalising a string, strict
equality of integers and of fractions, tuples element by element, and otherwise computer algebra on the difference. It
is stricter than math-verify in places (1,234.5 for a fraction) and laxer in others (units are dropped anywhere). Where
it would give a string to Python's `eval`, this one first refuses every character and name that is not arithmetic.
"""

import re

from evals.graders.latex_text import latex_to_text

Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


TEXT_AROUND = re.compile(r"\\text\{(.{1,1000})\}")
# The first normalisation: what MATH's own comparison does, in its order.
BEFORE_UNITS = _rules(
    (r"\n|\\!", ""),
    (r"\\\\", r"\\"),
    (r"[td]frac", "frac"),
    (r"\\left|\\right", ""),
    (r"\^(?:\{\\circ\}|\\circ)", ""),
    (r"\\\$", ""),
)
AFTER_UNITS = _rules((r"\\?%", ""), (r"([ {])\.", r"\g<1>0."), (r"^\.", "0."))
AFTER_LETTER = _rules(
    (r"\\sqrt([^{])", r"\\sqrt{\1}"),
    (r" ", ""),
    (r"\\frac([^{])([^{])", r"\\frac{\1}{\2}"),
    (r"\\frac([^{])\{", r"\\frac{\1}{"),
    (r"^0\.5$", r"\\frac{1}{2}"),
    (r"^(-?\d{1,300})/(-?\d{1,300})$", r"\\frac{\1}{\2}"),
)
# The second: prm800k's.
WORDS = _rules(
    (r"\\?[$%]", ""),
    (r" or | and ", " , "),
    (r"trillion", "*10^12"),
    (r"billion", "*10^9"),
    (r"million", "*10^6"),
    *(
        (rf"{unit}(?:es)?s? {{0,20}}(?:\^[0-9]{{1,20}})?", "")
        for unit in ("degree", "cm", "centimeter", "meter", "mile", "second", "minute", "hour", "day", "week", "month")
    ),
    *((rf"{unit}(?:es)?s? {{0,20}}(?:\^[0-9]{{1,20}})?", "") for unit in ("year", "foot", "feet", "inch", "yard")),
    (r"\^ {0,20}\\circ", ""),
)
SPACES = _rules((r"- {1,20}", "-"), (r"([0-9]) {1,20}(?=[0-9])", r"\1+"), (r"[ {}]", ""))
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
FRACTION = re.compile(r"-?[0-9]{1,300}.?/0{0,300}[1-9][0-9]{0,300}.?")
TOO_DEEP = re.compile(r"\^\{|\^\(|\^[0-9]{1,300}\^|\^[0-9][0-9]")
ARITHMETIC = re.compile(r"(?:[0-9a-zA-Z+\-*/^() ,!=<>]|(?<=[0-9])\.(?![a-zA-Z])|\.(?=[0-9])){1,1000}")
BRACKETS = "()[]"


def equal_by_rules(gold: str, given: str | None) -> bool | None:
    """Whether the released rules alone decide, without algebra; None where algebra is to be asked.

    Args:
        gold: The gold answer.
        given: The content of the last box, or None: that is never right.
    """
    if given is None or len(given) > 1000:
        return False
    if as_in_math(gold) == as_in_math(given):
        return True
    wanted, found = as_in_prm800k(gold), as_in_prm800k(given)
    if wanted == found:
        return True
    if not found:
        return False
    pairs = elements(wanted, found)
    decided = [_pair_by_rules(*pair) for pair in pairs]
    if not pairs or False in decided:
        return False
    return None


def algebra_pairs(gold: str, given: str) -> list[tuple[str, str]]:
    """The pairs of elements whose difference algebra must make zero, where `equal_by_rules` gave None."""
    return [pair for pair in elements(as_in_prm800k(gold), as_in_prm800k(given)) if _pair_by_rules(*pair) is None]


def algebra_allows(expression: str) -> bool:
    """Whether the released grader would try an expression, and `eval` can be trusted with it.

    At most two letters besides those of `sqrt` and `frac`, no high or nested powers (its rules); only arithmetic, no
    attribute, string, index or underscore (ours).
    """
    letters = {letter for letter in expression.replace("sqrt", "").replace("frac", "") if letter.isalpha()}
    return len(letters) <= 2 and not TOO_DEEP.search(expression) and bool(ARITHMETIC.fullmatch(expression))


def _pair_by_rules(wanted: str, found: str) -> bool | None:
    if FRACTION.fullmatch(wanted) and FRACTION.fullmatch(found):
        return wanted == found
    if is_integer(wanted) != is_integer(found):
        return False
    return None if algebra_allows(f"({wanted})-({found})") else False


def elements(wanted: str, found: str) -> list[tuple[str, str]]:
    """Elements of two tuples or intervals in pairs; none where brackets or lengths differ."""
    ours, theirs = split_tuple(wanted), split_tuple(found)
    if len(ours) > 1 and (wanted[0], wanted[-1]) != (found[0], found[-1]):
        return []
    return list(zip(ours, theirs, strict=True)) if len(ours) == len(theirs) else []


def split_tuple(text: str) -> list[str]:
    """What stands between commas inside one pair of brackets; otherwise the text alone."""
    text = THOUSANDS.sub("", text)
    inside = text[1:-1]
    if len(text) > 2 and text[0] in BRACKETS and text[-1] in BRACKETS and not set(inside) & set(BRACKETS):
        return [part.strip() for part in inside.split(",")]
    return [text] if text else []


def is_integer(text: str) -> bool:
    """Whether it reads as a number within 1e-7 of an integer, thousands' commas allowed."""
    return _whole(THOUSANDS.sub("", text)) is not None


def _whole(text: str) -> int | None:
    """The integer that a text is within 1e-7 of."""
    try:
        number = float(text)
        return round(number) if abs(number - round(number)) <= 1e-7 else None
    except (ValueError, OverflowError):
        return None


def as_in_math(answer: str) -> str:
    """The first normalisation."""
    answer = _without_text(answer.strip()).strip()
    text = _apply(BEFORE_UNITS, answer)
    parts = text.split("\\text{ ")
    if len(parts) > 2:
        return answer
    text = _apply(AFTER_UNITS, parts[0])
    name, equals, value = text.partition("=")
    if equals and "=" not in value and len(name) <= 2:
        text = value
    return _apply(AFTER_LETTER, text)


def as_in_prm800k(answer: str) -> str:
    """The second normalisation."""
    text = _apply(WORDS, _without_text(answer))
    if len(text) > 1 and text[0] == "{" and text[-1] == "}":
        text = text[1:-1]
    text = _as_integer(re.sub(r",\\! {0,20}", "", text), commas=False)
    if "\\" in text:
        text = latex_to_text(text)
    return _as_integer(_apply(SPACES, text).lower(), commas=True)


def _as_integer(text: str, *, commas: bool) -> str:
    """A whole number in plain digits."""
    number = _whole(THOUSANDS.sub("", text) if commas else text)
    return text if number is None else str(number)


def _without_text(answer: str) -> str:
    found = TEXT_AROUND.fullmatch(answer)
    return found[1] if found else answer


def _apply(rules: Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text
