"""`powercut-eval data`: bring the benchmarks' files and say what is there."""

from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from evals.benchmarks import BENCHMARKS
from evals.data import default_folder, read
from evals.data_fetch import from_folder, from_web
from evals.errors import DataError

app = typer.Typer(name="data", no_args_is_help=True, help="Bring the benchmarks' files, verified by sha256.")

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAMES]...", help=f"any of {', '.join(BENCHMARKS)} (all)")]
Folder = Annotated[Path | None, typer.Option("--to", "--data", help=f"the data folder ({default_folder()})")]
Given = Annotated[Path | None, typer.Option("--from", help="take the files from this folder; nothing is downloaded")]


@app.command()
def fetch(names: Names = None, given: Given = None, folder: Folder = None) -> None:
    """Bring files from their pinned revisions, or from a folder. What is there and right is left alone."""
    wanted, console = _wanted(names), Console(highlight=False)
    folder, failures = folder or default_folder(), 0
    with httpx.Client(timeout=httpx.Timeout(30.0), headers={"User-Agent": "powercut-eval"}) as client:
        for name in wanted:
            try:
                console.print(f"{name}: {_bring(name, given, folder, client)}", soft_wrap=True)
            except (DataError, OSError) as error:
                failures += 1
                typer.echo(str(error), err=True)
    if failures:
        raise typer.Exit(1)


@app.command("list")
def list_files(folder: Folder = None) -> None:
    """Say for every benchmark whether its file is there and right, and where it comes from."""
    console = Console(highlight=False)
    for name, benchmark in BENCHMARKS.items():
        source = benchmark.source
        try:
            read(source, folder)
            state = f"{name}: there"
        except DataError as error:
            state = str(error)
        console.print(f"{state}; from {source.origin} at {source.revision}", soft_wrap=True)


def _wanted(names: list[str] | None) -> list[str]:
    """The names asked for, refused together if one is unknown, before anything is downloaded."""
    for name in names or []:
        if name not in BENCHMARKS:
            raise typer.BadParameter(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}", param_hint="NAMES")
    return list(dict.fromkeys(names or BENCHMARKS))


def _bring(name: str, given: Path | None, folder: Path, client: httpx.Client) -> str:
    source = BENCHMARKS[name].source
    if given is not None:
        return f"{from_folder(source, given, folder)}, from {given}"
    try:
        read(source, folder)
    except DataError:
        return f"{from_web(source, folder, client)}, from {source.origin} at {source.revision}"
    return f"{folder / source.file} is there already"
