"""AIME's answers: integers from 0 to 999, compared as integers (copies write `025`, `25` and `"25"`)."""

import re

from evals.graders.boxed import last_boxed

NUMBER = re.compile(r"([+-]?\d{1,30})(?:\.0{1,30})?")
SAID = re.compile(
    r"(?i:answer\s{0,3}(?:is|:|=)\s{0,3}:?)\s{0,3}(?:\*{1,3}|\\\(|\$)?\s{0,2}(-?\d{1,3}(?:,?\d{3}){0,9})(?![\d/^]|\.\d)"
)
NOISE = re.compile(r"\\(?:text|mathrm|mathbf|textbf|left|right|displaystyle)|\\[!,;: ]|[{}$\s]")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def extract_integer(text: str) -> tuple[int | None, str | None]:
    """The integer that the text gives, and the words it was read from.

    The last box decides where there is one, even if it holds no integer; else the last "answer is N". A lone number
    at the end of a text that was cut off is not an answer.
    """
    content = last_boxed(text)
    if content is not None:
        return read_integer(content), content
    found = SAID.findall(text)
    return (int(found[-1].replace(",", "")), found[-1]) if found else (None, None)


def read_integer(content: str) -> int | None:
    r"""The integer a box holds: `025`, `1{,}000`, `25.0`, `m+n = 25`, `\text{25}`, `25^\circ`; or None."""
    plain = THOUSANDS.sub("", NOISE.sub("", content[:200].rpartition("=")[2])).removesuffix(".").removesuffix("^\\circ")
    found = NUMBER.fullmatch(plain)
    return int(found[1]) if found and len(content) <= 200 else None
