"""`powercut batch`: a file of requests in, a file of answers out, however long it takes and whatever breaks on the way.

A small file beside the output remembers the batch, so that the command can be stopped and started again, also after a
crash. The server works on all the same.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from service.batch_client import BatchClient, Refused, Run, open_run

batch_app = typer.Typer(no_args_is_help=True, help="Run a file of requests as a durable batch on a server.")
Url = Annotated[str, typer.Option(help="the server, here or elsewhere", envvar="POWERCUT_URL")]
Key = Annotated[str | None, typer.Option(help="its API key", envvar="POWERCUT_API_KEY", show_envvar=True)]
Output = Annotated[Path, typer.Option("--output", "-o", help="where the answers go; errors go beside them")]
DEFAULT_URL = "http://127.0.0.1:8000"
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


@batch_app.command("run")
def run_batch(
    input_file: Annotated[Path, typer.Argument(help="JSONL in OpenAI's form: custom_id, method, url, body")],
    output: Output,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    window: Annotated[str, typer.Option(help="until when the batch must be done, such as 24h")] = "24h",
    poll_s: Annotated[float, typer.Option(min=0.05, max=3600, help="seconds between two looks")] = 1.0,
) -> None:
    """Upload, run, wait and download. Start it again after a stop: it goes on where it was."""
    console = Console(stderr=True)
    try:
        with BatchClient(url, api_key, lambda reason: console.print(f"waiting: {reason}", style="dim")) as client:
            run = open_run(client, input_file, output, window)
            console.print(f"batch {run.batch_id}{', begun before' if run.is_resumed else ''}", style="dim")
            batch = follow(client, run, console, poll_s)
            failed = finish(client, run, batch, console)
    except KeyboardInterrupt:
        console.print("stopped; the server works on. The same command goes on with it")
        raise typer.Exit(INTERRUPTED) from None
    except (Refused, OSError) as error:
        typer.echo(f"powercut: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(1 if failed else 0)


@batch_app.command("status")
def show_status(
    batch: Annotated[str, typer.Argument(help="a batch's id, or the output file of `batch run`")],
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Print a batch as JSON."""
    _ask(batch, url, api_key, cancel=False)


@batch_app.command("cancel")
def cancel_batch(
    batch: Annotated[str, typer.Argument(help="a batch's id, or the output file of `batch run`")],
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Stop a batch. What is done can be had with `batch run`."""
    _ask(batch, url, api_key, cancel=True)


def _ask(batch: str, url: str, api_key: str | None, *, cancel: bool) -> None:
    try:
        with BatchClient(url, api_key, lambda reason: None) as client:
            batch_id = Run.read_id(Path(batch)) or batch
            found = client.cancel(batch_id) if cancel else client.look(batch_id)
    except (Refused, OSError) as error:
        typer.echo(f"powercut: {error}", err=True)
        raise typer.Exit(2) from None
    Console().print_json(data=found)


def follow(client: BatchClient, run: Run, console: Console, poll_s: float) -> dict[str, Any]:
    """Show how far the batch is until it has ended; the batch object then."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[cost]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("validating", total=None, cost="")
        for batch in client.watch(run.batch_id, poll_s):
            counts = batch["request_counts"]
            progress.update(
                task,
                description=batch["status"],
                total=counts["total"] or None,
                completed=counts["completed"] + counts["failed"],
                cost=cost(batch),
            )
            if client.has_ended(batch):
                return batch
    raise AssertionError("watching ends with the batch")


def cost(batch: dict[str, Any]) -> str:
    """Tokens and acceptance so far, and what went wrong."""
    usage, counts = batch["usage"], batch["request_counts"]
    power = usage["power"]
    words = [f"{usage['output_tokens']} tokens of {power['generated_tokens']} drawn"]
    if power["steps"]:
        words.append(f"accepted {power['accepted'] / power['steps']:.0%}")
    if counts["failed"]:
        words.append(f"{counts['failed']} failed")
    if counts["resumed"]:
        words.append(f"{counts['resumed']} resumed")
    return ", ".join(words)


def finish(client: BatchClient, run: Run, batch: dict[str, Any], console: Console) -> bool:
    """Bring what there is, and say what is wrong; whether anything is."""
    for problem in (batch["errors"] or {"data": []})["data"]:
        place = f"line {problem['line']}: " if problem["line"] is not None else ""
        typer.echo(f"powercut: {place}{problem['message']}", err=True)
    for file_id, path in ((batch["output_file_id"], run.output), (batch["error_file_id"], run.errors)):
        if file_id is not None:
            client.download(file_id, path)
            console.print(f"wrote {path}", style="dim")
        elif path == run.errors:
            path.unlink(missing_ok=True)  # of an earlier run: it would pass for this one's
    run.forget()
    console.print(f"{batch['status']}: {cost(batch)}", style="dim", highlight=False)
    return batch["status"] != "completed" or batch["request_counts"]["failed"] > 0
