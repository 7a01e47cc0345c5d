"""What stands for `powercut`, `make` and the like while a page's commands run: the real program, where it can run.

The shell runs a page's line as it is; the program's name leads here. A command that this machine cannot carry out (it
wants a GPU, another server, a big model or the internet) is parsed by the program's own command line instead, down to
its last option, and the note says so. Each call leaves one line in the file that NOTES names.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
OURS = ("powercut", "powercut-eval", "make", "pip", "python", "pre-commit")
OTHERS = ("ray", "serve", "docker", "kubectl", "apt-get", "sudo", "systemctl")
"""Programs that a test must not start: a block that calls one is marked `<!-- not run: why -->`."""
NAMES = (*OURS, *OTHERS)
NOTES, SERVER, TABLE, DATA, REAL = "DOCS_NOTES", "DOCS_SERVER", "DOCS_TABLE", "DOCS_DATA", "DOCS_REAL"
"""Variables: where calls are noted, a server on a table, that table, the benchmarks' files, and whether `powercut
sample` takes the default model all the same."""
ELSEWHERE = re.compile(r"https?://(?!127\.0\.0\.1|localhost)|\b[A-Z]\w+/[\w.-]+$|/path/to/")
VLLM_OPTIONS = {
    *("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size", "--distributed-executor-backend"),
    *("--max-model-len", "--gpu-memory-utilization"),
}
"""Options that pages give and that are vLLM's own, which is not installed here."""
FEW = "2"
"""Problems that a page's evaluation answers."""


def note(state: str, words: Sequence[str], why: str = "") -> None:
    """Write down what became of a call."""
    with Path(os.environ[NOTES]).open("a", encoding="utf-8") as notes:
        notes.write(json.dumps({"state": state, "command": " ".join(words), "why": why}) + "\n")


def run(words: Sequence[str], *command: str) -> NoReturn:
    """Become the real program."""
    note("run", words)
    os.execv(command[0], list(command))


def only_check(words: Sequence[str], why: str) -> NoReturn:
    """Parse the command and stop."""
    parse(words)
    note("checked", words, why)
    sys.exit(0)


def parse(words: Sequence[str]) -> None:
    """Let the program's own command line read the words; ends with its message and code 2 if it refuses them."""
    import typer.main

    if words[0] == "powercut":
        from service.cli import app
    else:
        from evals.cli import app
    command: Any = typer.main.get_command(app)
    name, rest = words[0], list(words[1:])
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            sys.exit(f"{name} has no command {rest[:1]}")
        name, command, rest = rest[0], command.commands[rest[0]], rest[1:]
    context = command.make_context(name, rest)
    unknown = [word.split("=")[0] for word in context.args if word.startswith("--")]
    if unknown and ("vllm" not in words or set(unknown) - VLLM_OPTIONS):
        sys.exit(f"unknown options {unknown}")


def option(words: Sequence[str], name: str) -> str | None:
    """The value of an option, None if it is not given."""
    return words[words.index(name) + 1] if name in words else None


def powercut(words: list[str]) -> NoReturn:
    """The service's command: on a table unless the page names an engine, or the default model is wanted."""
    engine = option(words, "--engine")
    if engine in {"vllm", "remote"}:
        only_check(words, f"the {engine} engine needs a server or an environment of its own")
    if any(ELSEWHERE.search(word) for word in words[2:]):
        only_check(words, "it names another server or a model from the hub")
    if "--ray" in words:
        only_check(words, "Ray's processes take longer to start than all pages together; they have tests of their own")
    extra: list[str] = []
    on_a_table = {"serve", "self-check"} | ({"sample"} if REAL not in os.environ else set())
    if engine is None and words[1] in on_a_table:
        extra = ["--engine", "tabular", "--model", os.environ[TABLE]]
    if words[1:2] == ["serve"]:
        serve([*words, *extra])
    run(words, sys.executable, "-m", "service", *words[1:], *extra)


def serve(words: list[str]) -> NoReturn:
    """Start a server on a free port, wait until it takes work, and stop it as an operator would."""
    from tests.service.serving import serving_command

    taken = option(words, "--port")
    kept = [word for word in words[2:] if word not in {"--port", taken}]
    options = [str(Path(word).resolve()) if Path(word).is_file() else word for word in kept]  # it runs elsewhere
    with serving_command(options, Path("server.log"), patience_s=120):
        note("run", words, "until it was ready")
    sys.exit(0)


def powercut_eval(words: list[str]) -> NoReturn:
    """The evals' command, on the table's server, on the benchmark files that are here, and on few of their problems."""
    data = os.environ.get(DATA)
    reports = words[1] == "report" or words[1:3] == ["data", "list"]
    own_data = "--data" in words
    if not reports and not own_data and data is None:
        only_check(words, "the benchmarks' files are not here")
    if words[1] == "report" and data is None and not Path(words[2]).exists():
        only_check(words, "its run was only checked")
    if any(ELSEWHERE.search(word) for word in words[2:]) or "gpqa" in words:
        only_check(words, "it names another server or gated data")
    if words[1:3] == ["data", "fetch"]:
        fetch(words, str(data))
    extra = [] if reports or own_data else ["--data", str(data), "--limit", FEW]  # the last of two limits holds
    if "--url" not in words and not reports:
        extra += ["--url", os.environ[SERVER]]
    run(words, sys.executable, "-m", "evals", *words[1:], *extra)


def fetch(words: list[str], data: str) -> NoReturn:
    """Bring the files from the folder that has them instead of from the internet."""
    if "FOLDER" in words or len(words) == 3:
        only_check(words, "some files are gated, or the folder is an example")
    run(words, sys.executable, "-m", "evals", *words[1:], "--from", data, "--to", "data")


def make(words: list[str]) -> NoReturn:
    """Whether the targets and variables exist. Not `make -n`: it runs the lines that call make again."""
    real = shutil.which("make", path=os.environ["PATH"].partition(os.pathsep)[2])  # beyond the folder that led here
    asked = [str(real), "--print-data-base", "--question", "no-target-of-this-name"]
    known = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for word in words[1:]:
        variable = word.partition("=")[0] if "=" in word else None
        wanted = rf"^{variable} |\$\({variable}\)" if variable else rf"^{re.escape(word)}:"
        if not re.search(wanted, known, re.MULTILINE):
            sys.exit(f"make knows no {word}")
    note("checked", words, "that the target exists")
    sys.exit(0)


def pip(words: list[str]) -> NoReturn:
    """Whether the extras of powercut that are asked for exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [part for word in words for group in re.findall(r"powercut\[(.*?)\]", word) for part in group.split(",")]
    if missing := set(asked) - set(extras):
        sys.exit(f"no extras {missing}")
    note("checked", words, "nothing is installed by a test")
    sys.exit(0)


def python(words: list[str]) -> NoReturn:
    """The interpreter that runs the tests."""
    run(words, sys.executable, *words[1:])


def pre_commit(words: list[str]) -> NoReturn:
    """It would write into the repository's hooks."""
    note("checked", words, "it would change the repository")
    sys.exit(0)


def refuse(words: list[str]) -> NoReturn:
    """Say how a block with such a command is marked."""
    sys.exit(f"{words[0]} is not run by a test: write <!-- not run: why --> above the block")


def main() -> None:
    """`python -m tests.docs.programs NAME WORDS…`"""
    words = sys.argv[1:]
    ours: dict[str, Callable[[list[str]], NoReturn]] = {
        "powercut": powercut,
        "powercut-eval": powercut_eval,
        "make": make,
        "pip": pip,
        "python": python,
        "pre-commit": pre_commit,
    }
    ours.get(words[0], refuse)(words)


if __name__ == "__main__":
    main()
