r"""The last `\boxed{…}` of a text, by one scan with a counter of braces."""

MARKS = ("\\boxed", "\\fbox")


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{…}` (else of the last `\fbox{…}`) whose braces are balanced.

    A box that the length limit cut off is no answer, and the one before it is not taken instead: the model was in the
    middle of changing its mind.
    """
    for mark in MARKS:
        start = text.rfind(mark)
        if start >= 0:
            return _balanced(text, start + len(mark))
    return None


def _balanced(text: str, start: int) -> str | None:
    """What the braces that open at `start` (after spaces) enclose, or None; an escaped brace counts for nothing."""
    while start < len(text) and text[start] == " ":
        start += 1
    if start >= len(text) or text[start] != "{":
        return None
    depth, place = 0, start
    while place < len(text):
        character = text[place]
        if character == "\\":
            place += 2
            continue
        depth += (character == "{") - (character == "}")
        if not depth:
            return text[start + 1 : place]
        place += 1
    return None
