r"""LaTeX as one line of plain text, as the released grader's converter gives it: `\frac{a}{b}` is `a/b`.

That rule loses brackets (`\frac{a+1}{b}` becomes `a+1/b`), which is the released grader's fault; it is kept because
this text is only used to agree with that grader.
"""

SYMBOLS = {
    "pi": "pi", "infty": "inf", "cup": "U", "cdot": "*", "times": "*", "sqrt": "sqrt", "alpha": "α", "beta": "β",
    "theta": "θ", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "pm": "±", "in": "∈",
    "circ": "∘", "cap": "∩", "to": "→", "angle": "∠", "{": "{", "}": "}", "%": "%", "$": "$", "&": "&", "#": "#",
    "_": "_", "\\": "\n", " ": " ", ",": " ", ";": " ", ":": " ", "quad": " ", "qquad": " ",
}  # fmt: skip
"""Macros without arguments that leave something; every other leaves only its arguments' text."""

BOLD = {
    **{ord("A") + place: chr(0x1D400 + place) for place in range(26)},
    **{ord("a") + place: chr(0x1D41A + place) for place in range(26)},
}
"""What `\\mathbf` makes of a letter: another one, so that a bold answer equals no plain one."""


def latex_to_text(latex: str) -> str:
    """The text; an unbalanced brace is taken as it comes, so nothing raises."""
    for name in ("\\tfrac", "\\dfrac", "\\frac"):
        latex = latex.replace(name, " \\frac")
    text, _ = _until(latex, 0, closed_by="")
    return text.strip()


def _until(latex: str, place: int, *, closed_by: str, depth: int = 0) -> tuple[str, int]:
    """Text up to a closing character, and where the rest begins."""
    parts: list[str] = []
    while place < len(latex):
        character = latex[place]
        if character == closed_by:
            return "".join(parts), place + 1
        if character in "\\{" and depth < 50:
            part, place = _argument(latex, place, depth)
            parts.append(part)
        else:
            parts.append(" " if character == "~" else character)
            place += 1
    return "".join(parts), place


def _argument(latex: str, place: int, depth: int) -> tuple[str, int]:
    """The next group, macro or character."""
    while place < len(latex) and latex[place] == " ":
        place += 1
    if place >= len(latex):
        return "", place
    if latex[place] == "{":
        return _until(latex, place + 1, closed_by="}", depth=depth + 1)
    if latex[place] == "\\":
        return _macro(latex, place + 1, depth)
    return latex[place], place + 1


def _macro(latex: str, place: int, depth: int) -> tuple[str, int]:
    """A macro with the arguments that it takes."""
    end = place
    while end < len(latex) and latex[end].isalpha():
        end += 1
    name = latex[place:end] or latex[place : place + 1]
    end = max(end, place + 1)
    while name.isalpha() and end < len(latex) and latex[end] == " ":
        end += 1
    if name == "frac":
        above, end = _argument(latex, end, depth + 1)
        below, end = _argument(latex, end, depth + 1)
        return f"{above}/{below}", end
    if name == "sqrt":
        if end < len(latex) and latex[end] == "[":
            _, end = _until(latex, end + 1, closed_by="]", depth=depth + 1)
        under, end = _argument(latex, end, depth + 1)
        return f"sqrt({under})", end
    if name == "mathbf":
        start, (bold, end) = end, _argument(latex, end, depth + 1)
        return bold if "\\" in latex[start:end] else bold.translate(BOLD), end
    if name in ("begin", "end"):
        _, end = _argument(latex, end, depth + 1)
        return "", end
    return SYMBOLS.get(name, ""), end
