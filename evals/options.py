"""Options that the commands share, and how mistakes become one clear line."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from evals.benchmarks import BENCHMARKS, Benchmark
from evals.errors import EvalsError, OptionError
from evals.problem import STYLES, Style
from evals.prompts import Template
from evals.settings import Arm

KEY_VARIABLE = "POWERCUT_EVAL_API_KEY"
SOME_FAILED = 2
"""Exit code of a run that ended with calls that had failed."""
STOPPED = 130
"""The shell's exit code for a Ctrl-C."""


def tell_version(told: bool) -> None:
    """Print what is installed, and end."""
    if told:
        typer.echo(f"powercut-eval {metadata.version('powercut')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=tell_version, is_eager=True, help="say which version")]
BenchmarkName = Annotated[str, typer.Argument(help="one of the benchmarks; `powercut-eval data list` names them")]
Url = Annotated[str, typer.Option(help="the server, with or without /v1")]
Model = Annotated[str | None, typer.Option(help="the model's id there (default: the first that it lists)")]
Power = Annotated[str | None, typer.Option(help="the `power` object as JSON; without `alpha` it has the benchmark's")]
Limit = Annotated[int | None, typer.Option(min=1, help="only the first so many problems")]
Repeats = Annotated[int, typer.Option(min=1, help="answers to each problem")]
Seed = Annotated[int, typer.Option(help="fixes every draw of servers that honour seeds, and the shuffles")]
Concurrency = Annotated[int, typer.Option(min=1, max=1024, help="calls under way at one time")]
Output = Annotated[Path, typer.Option(help="the run's folder; the same command continues what is in it")]
PromptStyle = Annotated[str | None, typer.Option(help=f"{', '.join(STYLES)} (default: paper)")]
PromptTemplate = Annotated[Path | None, typer.Option(help="a file with your own prompt, {question} in it")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="the answer's longest (default: the benchmark's)")]
Temperature = Annotated[float | None, typer.Option(min=0, help="of plain sampling")]
TopP = Annotated[float | None, typer.Option(help="of plain sampling")]
Preset = Annotated[Literal["paper"] | None, typer.Option(help="the published settings: long, dear, in mode paper")]
Batch = Annotated[bool, typer.Option("--batch", help="send it through the server's /v1/batches")]
Unsafe = Annotated[bool, typer.Option("--unsafe", help="run model-written code without a sandbox")]
Logprobs = Annotated[bool, typer.Option(help="ask for log-probabilities, which gives Σ log p")]
MaxStops = Annotated[int | None, typer.Option(min=0, help="stop strings sent at most; OpenAI's own servers take 4")]
Data = Annotated[Path | None, typer.Option(help="the folder with the data files")]
ApiKey = Annotated[str | None, typer.Option(envvar=KEY_VARIABLE, help="the server's key")]
Timeout = Annotated[float, typer.Option(min=1, help="seconds that an answer may take")]
Retries = Annotated[int, typer.Option(min=0, help="how often a call is made again when the server is busy or away")]


def benchmark_named(name: str) -> Benchmark:
    """A benchmark by its name."""
    if name not in BENCHMARKS:
        raise OptionError(f"unknown benchmark {name!r}; one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def style_of(style: str | None, template: Path | None) -> Style | Template:
    """The prompt's wording."""
    if template is not None:
        if style is not None:
            raise OptionError("--prompt-template is a wording of its own: leave out --prompt-style")
        return Template.read(template)
    for known in STYLES:
        if known == (style or "paper"):
            return known
    raise OptionError(f"--prompt-style: unknown style {style!r}; one of {', '.join(STYLES)}")


def keys_of(url: str, api_key: str | None, arms: Sequence[Arm]) -> Mapping[str, str]:
    """Keys by server: the run's own, and for an arm elsewhere that of POWERCUT_EVAL_API_KEY_<NAME>."""
    keys = {url: api_key} if api_key else {}
    for arm in arms:
        name = f"{KEY_VARIABLE}_{arm.name.upper().replace('-', '_').replace('.', '_')}"
        if arm.url is not None and (key := os.environ.get(name)):
            keys[arm.url] = key
    return keys


@contextmanager
def one_clear_line(console: Console) -> Iterator[None]:
    """Errors raised on purpose end the command with their text; anything else is a bug and shows as one."""
    try:
        yield
    except EvalsError as error:
        give_up(console, str(error), 1)
    except BaseExceptionGroup as group:
        if (meant := group.subgroup(EvalsError)) is None:
            raise
        give_up(console, str(first(meant)), 1)
    except KeyboardInterrupt:
        give_up(console, "stopped; the same command goes on from here", STOPPED)


def give_up(console: Console, text: str, code: int) -> NoReturn:
    """End the command with a line on standard error."""
    console.print(f"powercut-eval: {text}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code) from None


def first(group: BaseExceptionGroup) -> BaseException:
    """The first error of a group, however deep."""
    found = group.exceptions[0]
    return first(found) if isinstance(found, BaseExceptionGroup) else found
