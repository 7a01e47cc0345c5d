r"""The letter of a multiple-choice answer: from `\boxed{C}`, "the answer is C", `(C)`, or a line that is a letter.

Never from the article "a", nor from a capital "A" that begins a sentence: that is the fault of upper-casing the whole
text and taking its last stand-alone letter, which `released_letter` does to compare with published numbers.
"""

import re

from evals.graders.boxed import last_boxed

# Every quantifier is bounded, so each place in the text is looked at a bounded number of times.
WRAP = r"(?:\\(?:text|textbf|mathrm|mathbf|rm|bf)\s{0,2}\{?\s{0,2}){0,2}"
IN_BOX = re.compile(
    rf"\s{{0,4}}\$?{WRAP}(?:[Oo]ption|[Aa]nswer|[Cc]hoice)?:?\s{{0,2}}[(\[]?\s{{0,2}}([A-Da-d])\s{{0,2}}[)\]]?[).:]?\}}{{0,2}}"
    r"(?![A-Za-z0-9])"
)
BEFORE = (
    r"(?:answer|option|choice)\s{0,3}(?:is|:|=|would be|must be|should be)\s{0,3}:?\s{0,3}(?:option|choice)?\s{0,3}"
)
MARKED = r"(?:\*{1,3}|\$|\\\(|`)?\s{0,2}"
SAID = re.compile(
    rf"(?i:{BEFORE}){MARKED}{WRAP}(?:[(\[]\s?([A-Da-d])\s?[)\]]|([B-D])(?![A-Za-z0-9'’])|(A)(?=[.,;:!)*$`}}\]]|\s{{0,3}}$))",
    re.MULTILINE,
)
IN_BRACKETS = re.compile(r"(?<![A-Za-z0-9])\(([A-D])\)(?![A-Za-z0-9])")
ALONE = re.compile(r"^[*\s]{0,4}([A-D])[*.):\s]{0,4}$", re.MULTILINE)
STAND_ALONE = re.compile(r"\b[ABCD]\b")


def extract_letter(text: str) -> str | None:
    """The letter that the text gives as its answer, or None.

    The box decides where there is one; else the last "answer is …"; else the last bracketed letter; else the last
    line that is nothing but a letter.
    """
    content = last_boxed(text)
    if content is not None:
        found = IN_BOX.match(content)
        return found[1].upper() if found else None
    for pattern in (SAID, IN_BRACKETS, ALONE):
        letters = [next(filter(None, match.groups())) for match in pattern.finditer(text)]
        if letters:
            return letters[-1].upper()
    return None


def released_letter(text: str) -> str | None:
    """What the paper's released code takes: the last stand-alone A, B, C or D of the upper-cased text."""
    found = STAND_ALONE.findall(text.upper())
    return found[-1] if found else None
