"""The program in an answer to a coding problem: a base model's continuation, or a chat's code block."""

import re
from collections.abc import Iterator

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\nassert", "\nimport", "\nfrom", "\n```", "if __name__")
"""Where a function's body has ended; the ten of the paper's protocol."""
CLOSERS = tuple(")]}")
FENCE = "```"


def continued(stub: str, answer: str) -> str:
    """The stub and the body that continues it: up to the first line that is not indented.

    A line that only closes a bracket belongs to the body even at the margin.
    """
    body: list[str] = []
    for line in answer.splitlines():
        if line.strip() and not line[0].isspace() and not line.startswith(CLOSERS):
            break
        body.append(line)
    return stub + "\n".join(body) + "\n"


def from_chat(stub: str, entry_point: str, answer: str) -> str:
    """The last code block that defines the function, else the last one, else the text itself.

    A block without the definition continues the stub; one with it gets the stub's imports and helpers before it.
    """
    defines = definition(entry_point)
    blocks = list(code_blocks(answer)) or [answer]
    block = next((block for block in reversed(blocks) if defines.search(block)), blocks[-1])
    if not defines.search(block):
        return continued(stub, block)
    found = defines.search(stub)
    return (stub[: found.start()] if found else "") + block + "\n"


def definition(entry_point: str) -> re.Pattern[str]:
    """Where the function is defined at the margin."""
    return re.compile(rf"^(?:async )?def {re.escape(entry_point)}\b", re.MULTILINE)


def code_blocks(text: str) -> Iterator[str]:
    """The text between fences; a last one that the length limit left open counts."""
    block: list[str] | None = None
    for line in text.splitlines():
        if line.lstrip().startswith(FENCE):
            if block is not None:
                yield "\n".join(block)
            block = [] if block is None else None
        elif block is not None:
            block.append(line)
    if block:
        yield "\n".join(block)


def released_program(stub: str, entry_point: str, answer: str) -> str:
    """The program that the paper's released code would test, found by scans instead of nested lazy patterns.

    It strips the answer's end, drops a trailing stop string, looks in stub and answer together for a fenced block with
    the function, else for the function, else for any, and takes the body up to the first line that is indented by
    less than two spaces or a tab. The stub is put before that body.
    """
    answer = answer.rstrip()
    for stop in STOPS:
        answer = answer.removesuffix(stop)
    text = stub + answer
    head = rf"def\s+{re.escape(entry_point)}"
    body = _fenced_body(text, head)
    for pattern in (head, "def"):
        body = body if body is not None else _indented_body(text, pattern)
    if body is None:
        body = "\n".join(" " * 4 + line if line.strip() else line for line in text.split("\n"))
    return stub + body + "\n"


def _after_signature(text: str, pattern: str, start: int = 0) -> int | None:
    found = re.compile(pattern).search(text, start)
    colon = text.find(":\n", found.end()) if found else -1
    return colon + 2 if colon >= 0 else None


def _fenced_body(text: str, pattern: str) -> str | None:
    fence = text.find(FENCE)
    start = _after_signature(text, pattern, fence) if fence >= 0 else None
    end = text.find("\n" + FENCE, start) if start is not None else -1
    return text[start:end] if end >= 0 else None


def _indented_body(text: str, pattern: str) -> str | None:
    start = _after_signature(text, pattern)
    if start is None:
        return None
    lines = text[start:].split("\n")
    kept, blank = [lines[0]], 0
    for line in lines[1:]:
        if not line:
            blank += 1
        elif line.startswith(("  ", "\t")):
            kept += [""] * blank + [line]
            blank = 0
        else:
            break
    return "\n".join(kept)
