"""`powercut analyse`: one analysis from the shell, without a server, a time limit or a cap on its memory."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from pydantic_core import from_json
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service.analysis import ANALYSES
from service.analysis.frame import About, Analysis, AnalysisError, AnalysisRequest
from service.analysis.metering import BudgetSpent, ReleaseMismatch, Stored
from service.analysis.run import Outcome, choose_seed, run
from service.errors import describe_validation
from service.jobs.ledger import StoreLedger
from service.jobs.store import Store
from service.jobs.unavailable import StoreUnavailable
from service.options import one_clear_line
from service.settings import Settings

DEFAULT_MODEL = "default"
OWNER = "local"
"""Whose privacy budgets are spent from the shell."""


def analyse(
    name: Annotated[str | None, typer.Argument(help="an analysis; left out, they are listed")] = None,
    request: Annotated[Path | None, typer.Argument(help="a file with the request as JSON; - is standard input")] = None,
    plot: Annotated[Path | None, typer.Option(help="write a picture to this PNG file")] = None,
    model: Annotated[
        str, typer.Option(help="folder or Hugging Face name, for analyses of the served model")
    ] = DEFAULT_MODEL,
    example: Annotated[bool, typer.Option("--example", help="print a request that runs, and stop")] = False,
) -> None:
    """Run an analysis on a request like the one over HTTP; prints its reply as JSON."""
    if name is None:
        list_analyses()
        return
    if name not in ANALYSES:
        fail(f"there is no analysis {name!r}; choose one of {', '.join(ANALYSES)}")
    analysis = ANALYSES[name]
    if example:
        typer.echo(json.dumps(analysis.example, indent=1))
        return
    if request is None:
        fail(f"give a file with the request; `powercut analyse {name} --example` prints one")
    parsed = parse(analysis, read(request))
    with one_clear_line():
        outcome = metered(analysis, parsed, About(checkpoint=model), picture=plot is not None)
    if plot is not None and outcome.picture is not None:
        write(plot, outcome.picture)
    typer.echo(outcome.reply.decode())


def list_analyses() -> None:
    """A table of all of them."""
    table = Table(title="powercut analyse NAME request.json", title_justify="left")
    for column in ("name", "what it answers", "paper"):
        table.add_column(column)
    for analysis in ANALYSES.values():
        table.add_row(analysis.name, analysis.summary, f"{analysis.paper.title} (arXiv {analysis.paper.arxiv})")
    Console().print(table)


def read(path: Path) -> bytes:
    """A file's bytes, or standard input's."""
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        fail(f"{path}: {error.strerror}")


def write(path: Path, content: bytes) -> None:
    """Write a file, or say why not."""
    try:
        path.write_bytes(content)
    except OSError as error:
        fail(f"{path}: {error.strerror}")


def parse(analysis: Analysis[Any, Any], text: bytes) -> AnalysisRequest:
    """The typed request, or one clear line."""
    try:
        return analysis.request.model_validate_json(text)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        sent = None if found[0]["type"] == "json_invalid" else from_json(text)
        fail(describe_validation(found, sent)[1]["error"]["message"])


def metered(analysis: Analysis[Any, Any], request: AnalysisRequest, about: About, *, picture: bool) -> Outcome:
    """Run, on the privacy budgets of the data folder if it costs any, as the server does."""
    try:
        charge = None if analysis.charge is None else analysis.charge(request)
        if charge is None:
            return with_progress(analysis, request, about, picture=picture)
        with closing(Store(settings := Settings())) as store:
            ledger = StoreLedger(store.database, settings)
            account = ledger.debit(OWNER, charge)
            if (stored := account.stored) is None:
                told = {"release_id": account.release_id, "budget": account.remaining}
                drawn = with_progress(analysis, request, about.model_copy(update=told), picture=True)
                release = Stored(drawn.reply, drawn.picture or b"")
                stored = ledger.settle(OWNER, charge.dataset_id, account.release_id, release)
            return Outcome(stored.reply, stored.picture)
    except (AnalysisError, BudgetSpent, ReleaseMismatch, StoreUnavailable) as error:
        fail(str(error))


def with_progress(analysis: Analysis[Any, Any], request: AnalysisRequest, about: About, *, picture: bool) -> Outcome:
    """Run with a bar on standard error."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(analysis.name, total=1.0)

        def progress(fraction: float, note: str) -> None:
            bar.update(task, completed=fraction, description=note or analysis.name)

        try:
            seed = choose_seed(analysis, request)
            return run(analysis, request, seed, picture=picture, progress=progress, about=about)
        except AnalysisError as error:
            bar.stop()
            fail(str(error))


def fail(message: str) -> NoReturn:
    """One clear line, and exit code 2."""
    typer.echo(f"powercut: {message}", err=True)
    raise typer.Exit(2)
