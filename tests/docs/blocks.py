"""The code blocks of a page, as Markdown has them."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
NOT_RUN = re.compile(r"<!--\s*not run:\s*(.+?)\s*-->", re.DOTALL)
TITLE = re.compile(r'title="([^"]*)"')
COMMAND = re.compile(r"^\s*(\$ |curl |powercut |powercut-eval |pip install |make |python -m )", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One code block. `reason` says why it is not run, if it is not."""

    page: str
    line: int
    language: str
    title: str
    text: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language or 'no language'})"


def pages() -> list[str]:
    """README and every page, by path in the repository."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return ["README.md", *found]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page in order. Indented ones have no language, and are found all the same."""
    tokens = MarkdownIt("commonmark").parse((ROOT / page).read_text(encoding="utf-8"))
    found: list[Block] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type not in {"fence", "code_block"}:
            continue
        language, _, rest = token.info.strip().partition(" ")
        title = TITLE.search(rest)
        above = NOT_RUN.search(before.content) if before is not None and before.type == "html_block" else None
        line = token.map[0] + 1 if token.map else 0
        found.append(Block(page, line, language, title[1] if title else "", token.content, above[1] if above else None))
    return found


def commands_of(block: Block) -> list[tuple[str, list[str]]]:
    """A console's commands, each with the lines of output that the page shows below it.

    A command begins with `$ ` and goes on while the shell finds it incomplete.
    """
    found: list[tuple[str, list[str]]] = []
    complete = True
    for line in block.text.splitlines():
        if line.startswith("$ ") and complete:
            found.append((line[2:], []))
        elif not found:
            raise AssertionError(f"{block}: a console begins with '$ ', not with {line!r}")
        elif not complete:
            found[-1] = (found[-1][0] + "\n" + line, [])
        else:
            found[-1][1].append(line)
            continue
        complete = is_complete(found[-1][0])
    assert complete, f"{block}: the shell waits for more"
    return found


def is_complete(command: str) -> bool:
    """Whether the shell would run a text as it stands: no open quote, loop or continued line."""
    if command.rstrip().endswith("\\"):
        return False
    checked = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, check=False)
    return checked.returncode == 0 and "unexpected" not in checked.stderr


def looks_like_code(text: str) -> bool:
    """Whether a block that says it is text is something that a reader would run or send."""
    return bool(COMMAND.search(text)) or text.lstrip().startswith(("{", "["))
