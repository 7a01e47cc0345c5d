"""The folder in which a page's blocks are run one after the other, as a reader would, and how each language is run."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.docs.blocks import ROOT, Block, commands_of, looks_like_code
from tests.docs.programs import DATA, NAMES, NOTES, REAL, SERVER, TABLE

ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost):8000")
PATIENCE_S = 240
ROUTE = re.compile(r"^(GET|POST) (/\S+)$")


class World:
    """One page's folder. Blocks leave files, servers' replies and Python names for the blocks below them.

    The page talks to the server at `url`, and its evaluations to one that answers at once, on `table`. They are the
    same but for pages that are shown with the default model (`real`).
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        code: Path = ROOT,
        table: Path = Path("none"),
        table_url: str = "",
        data: Path | None = None,
        real: bool = False,
    ) -> None:
        self.folder, self.url, self.code = folder, url, code
        self.notes = folder / ".notes"
        self.reply: Any = None
        self.scripts: list[str] = []
        self.environment = os.environ | {
            "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(code),
            "OMP_NUM_THREADS": "1",
            "POWERCUT_URL": url,
            "POWERCUT_DATA_DIR": str(folder / ".jobs"),
            NOTES: str(self.notes),
            SERVER: table_url,
            TABLE: str(table),
            **({DATA: str(data)} if data else {}),
            **({REAL: "yes"} if real else {}),
        }
        self.notes.touch()
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name in NAMES:
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.docs.programs {name} "$@"\n')
            program.chmod(0o755)

    def run(self, block: Block) -> None:
        """Run a block by its language. A language that nobody runs is a failure, so that nothing slips through."""
        runners = {
            "console": self.console,
            "python": self.python,
            "json": self.json,
            "jsonl": self.jsonl,
            "yaml": self.yaml,
            "toml": self.toml,
            "diff": self.diff,
            "text": self.text,
        }
        assert block.language in runners, f"{block}: give the fence a language out of {', '.join(runners)}"
        runners[block.language](block)

    def here(self, text: str) -> str:
        """A text with the running server in place of the address that pages give."""
        return ADDRESS.sub(self.url.removeprefix("http://"), text)

    def shell(self, command: list[str], text: str | None, what: str) -> str:
        """What a process printed; its failure is the page's."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"{what}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def console(self, block: Block) -> None:
        """Run each command, and find the lines that the page shows among those that it printed."""
        for command, shown in commands_of(block):
            printed = self.shell(["bash", "-o", "pipefail", "-c", self.here(command)], None, f"{block}: {command}")
            if printed.lstrip().startswith("{"):
                self.reply = parsed_or_none(printed)
            check_shown(block, shown, printed)

    def python(self, block: Block) -> None:
        """Run a block after the page's earlier ones, unless it imports what it needs; or write the file it is."""
        if block.title:
            self.write(block)
            return
        begins = block.text.startswith(("import ", "from "))
        self.scripts = [block.text] if begins else [*self.scripts, block.text]
        self.shell([sys.executable, "-W", "error", "-c", self.here("\n".join(self.scripts))], None, str(block))

    def json(self, block: Block) -> None:
        """A request is sent, a reply compared with the one before it, a file written: the title says which it is."""
        if route := ROUTE.match(block.title):
            self.send(route[1], route[2], parsed(block), block)
        elif block.title == "reply":
            assert self.reply is not None, f"{block}: there was no reply before it"
            check_shape(tolerant(block), self.reply, str(block))
        else:
            assert block.title.endswith(".json"), f'{block}: say what it is: title="POST /route", "reply" or a file'
            parsed(block)
            self.write(block)

    def jsonl(self, block: Block) -> None:
        """A file of rows. The requests of a batch are sent one by one as well."""
        for row in map(json.loads, block.text.splitlines()):
            if "url" in row:
                self.send(row["method"], row["url"], row["body"], block)
        self.write(block)

    def send(self, method: str, path: str, body: Any, block: Block) -> None:
        """Send a request that the page shows; it is answered."""
        reply = httpx.request(method, self.url + path, json=body, timeout=PATIENCE_S)
        assert reply.status_code == 200, f"{block}: {reply.text}"
        self.reply = reply.json()

    def yaml(self, block: Block) -> None:
        """It is YAML; what it describes has tests of its own."""
        assert list(yaml.safe_load_all(block.text)), block
        if block.title:
            self.write(block)

    def toml(self, block: Block) -> None:
        """It is TOML."""
        assert tomllib.loads(block.text), block

    def diff(self, block: Block) -> None:
        """A change to a file of the copy, whose hunks are parted by @@. It must fit the code as it is."""
        assert self.code == self.folder, f"{block}: only the page on contributing runs in a copy of the code"
        path = self.folder / block.title
        text = path.read_text(encoding="utf-8")
        for hunk in block.text.split("@@\n"):
            before, after = (lines_without(hunk, sign) for sign in "+-")
            assert text.count(before) == 1, f"{block}: found {text.count(before)} times in {block.title}:\n{before}"
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")

    def text(self, block: Block) -> None:
        """Formulas, drawings, output: nothing to run, and nothing that should have been run."""
        assert not looks_like_code(block.text), f"{block}: that is no text: give it the language that it is in"

    def write(self, block: Block) -> None:
        """The file that a block is."""
        path = self.folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def calls(self) -> list[dict[str, str]]:
        """What became of each call of a program."""
        return [json.loads(line) for line in self.notes.read_text(encoding="utf-8").splitlines()]


def lines_without(hunk: str, sign: str) -> str:
    """One side of a change: the lines that do not begin with the sign, without their first column."""
    return "".join(f"{line[1:]}\n" for line in hunk.splitlines() if not line.startswith(sign))


def parsed(block: Block) -> Any:
    """A block of JSON."""
    try:
        return json.loads(block.text)
    except ValueError as error:
        raise AssertionError(f"{block}: {error}") from None


def parsed_or_none(text: str) -> Any:
    """The JSON with which a text begins."""
    try:
        return json.JSONDecoder().raw_decode(text.lstrip())[0]
    except ValueError:
        return None


def tolerant(block: Block) -> Any:
    """A reply as a page shows it: an ellipsis stands for what is left out."""
    text = re.sub(r",?\s*…\s*(?=[\]}])", "", block.text)
    text = re.sub(r":\s*…", ": null", text)
    try:
        return json.loads(text)
    except ValueError as error:
        raise AssertionError(f"{block}: {error}") from None


def check_shape(shown: Any, real: Any, where: str) -> None:
    """What is shown is there, with values of the same kind; of lists the first items are compared."""
    if shown is None or real is None:
        return
    if isinstance(shown, dict):
        assert isinstance(real, dict), where
        for name, value in shown.items():
            assert name in real, f"{where}: the reply has no {name}, but {sorted(real)}"
            check_shape(value, real[name], f"{where}.{name}")
    elif isinstance(shown, list):
        assert isinstance(real, list), where
        if shown and real:
            check_shape(shown[0], real[0], f"{where}[0]")
    else:
        kinds = (int, float) if type(shown) in (int, float) else (type(shown),)
        loose = "unknown" in (shown, real)  # a verdict is true, false or "unknown"
        assert loose or isinstance(real, kinds), f"{where}: {shown!r} is shown, {real!r} is true"


def check_shown(block: Block, shown: list[str], printed: str) -> None:
    """Every line that the page shows is among the printed ones, in order; … stands for anything."""
    lines = iter(line.strip() for line in printed.splitlines())
    for line in (each.strip() for each in shown):
        if not line or line == "…":
            continue
        wanted = re.compile(".*".join(re.escape(part) for part in line.split("…")) + "$")
        assert any(wanted.match(found) for found in lines), f"{block}: {line!r} is not what was printed:\n{printed}"
