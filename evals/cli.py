"""The `powercut-eval` command: run benchmarks over HTTP, compare methods at equal cost, report with error bars."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evals import options
from evals.arms import check_arms, check_used, method_arm, preset_fields, read_arm, read_object, single_arm
from evals.client import Patience
from evals.data_command import app as data_app
from evals.divergence import Probe
from evals.errors import OptionError
from evals.session import Plan, carry_out
from evals.settings import Arm

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Benchmarks for powercut and other OpenAI servers.")
app.add_typer(data_app)
COMPARED = ("entropy_cut", "standard", "low_temperature", "uniform_cut", "best_of_n")
"""The arms of a comparison that names none."""


@app.callback()
def powercut_eval(version: options.Version = False) -> None:
    """What `powercut-eval` takes before a command's name."""


@app.command()
def run(
    benchmark: options.BenchmarkName,
    output: options.Output,
    url: options.Url = "http://127.0.0.1:8000",
    model: options.Model = None,
    power: options.Power = None,
    limit: options.Limit = None,
    repeats: options.Repeats = 1,
    seed: options.Seed = 0,
    concurrency: options.Concurrency = 8,
    prompt_style: options.PromptStyle = None,
    prompt_template: options.PromptTemplate = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    preset: options.Preset = None,
    batch: options.Batch = False,
    unsafe: options.Unsafe = False,
    logprobs: options.Logprobs = True,
    max_stops: options.MaxStops = None,
    data: options.Data = None,
    api_key: options.ApiKey = None,
    answer_timeout: options.Timeout = 3600.0,
    retries: options.Retries = 8,
) -> None:
    """Answer a benchmark's problems by one method, grade the answers and keep the records."""
    console = Console(stderr=True)
    with options.one_clear_line(console):
        chosen = options.benchmark_named(benchmark)
        paper = preset is not None
        if power is None and not paper:
            arm = method_arm("standard", {}, temperature, top_p)
        else:
            if temperature is not None or top_p is not None:
                raise OptionError("--temperature and --top-p are plain sampling's: a power method takes alpha")
            given = read_object(power, "--power") if power else {}
            arm = single_arm(given, preset_fields(chosen.defaults, paper=paper))
        plan = Plan(
            chosen,
            (arm,),
            None,
            url,
            model,
            output,
            style=options.style_of(prompt_style, prompt_template),
            limit=limit,
            repeats=repeats,
            seed=seed,
            max_tokens=max_tokens or (chosen.defaults.paper_max_tokens if paper else None),
            concurrency=concurrency,
            logprobs=logprobs,
            max_stops=max_stops,
            batch=batch,
            unsafe=unsafe,
            data=data,
            keys=options.keys_of(url, api_key, ()),
            patience=Patience(answer_s=answer_timeout, retries=retries),
        )
        finish(plan, console)


@app.command()
def compare(
    benchmark: options.BenchmarkName,
    output: options.Output,
    arm: Annotated[
        list[str] | None, typer.Option(help="METHOD, NAME={power json} or NAME=URL#MODEL; repeat it")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="the arm whose cost is the others' budget")] = None,
    url: options.Url = "http://127.0.0.1:8000",
    model: options.Model = None,
    power: options.Power = None,
    limit: options.Limit = None,
    repeats: options.Repeats = 1,
    seed: options.Seed = 0,
    concurrency: options.Concurrency = 8,
    prompt_style: options.PromptStyle = None,
    prompt_template: options.PromptTemplate = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    preset: options.Preset = None,
    batch: options.Batch = False,
    unsafe: options.Unsafe = False,
    logprobs: options.Logprobs = True,
    max_stops: options.MaxStops = None,
    data: options.Data = None,
    api_key: options.ApiKey = None,
    answer_timeout: options.Timeout = 3600.0,
    retries: options.Retries = 8,
) -> None:
    """Answer each problem by several methods with at most the tokens that the reference arm took for it."""
    console = Console(stderr=True)
    with options.one_clear_line(console):
        chosen = options.benchmark_named(benchmark)
        given = read_object(power, "--power") if power else {}
        shared = preset_fields(chosen.defaults, paper=preset is not None) | given
        if "method" in given:
            raise OptionError("--power: the arms name the methods; leave out method")
        arms = tuple(read_arm(text, shared, temperature, top_p) for text in arm or COMPARED)
        reference = reference or arms[0].name
        check_arms(arms, reference)
        check_used(given, arms)
        plan = Plan(
            chosen,
            arms,
            reference,
            url,
            model,
            output,
            style=options.style_of(prompt_style, prompt_template),
            limit=limit,
            repeats=repeats,
            seed=seed,
            max_tokens=max_tokens or (chosen.defaults.paper_max_tokens if preset is not None else None),
            concurrency=concurrency,
            logprobs=logprobs,
            max_stops=max_stops,
            batch=batch,
            unsafe=unsafe,
            data=data,
            keys=options.keys_of(url, api_key, arms),
            patience=Patience(answer_s=answer_timeout, retries=retries),
        )
        finish(plan, console)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="folders of runs and comparisons", metavar="DIR...")],
    output: Annotated[Path | None, typer.Option(help="where the report goes (default: the first folder)")] = None,
    delta: Annotated[float, typer.Option(min=1e-6, max=0.5, help="chance that an interval fails")] = 0.05,
    tried: Annotated[
        int | None, typer.Option(min=1, help="configurations tried on these problems, all counted")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="the arm that the others are tested against")] = None,
    published: Annotated[Path | None, typer.Option(help="JSON with numbers from elsewhere to stand beside")] = None,
    texts: Annotated[bool, typer.Option(help="show answers on the page")] = True,
    seed: Annotated[int, typer.Option(help="of the bootstrap")] = 0,
) -> None:
    """Write report.md, report.json and report.html on one or several runs, and print the first."""
    from evals.report.published import read_published  # scipy and matplotlib take a second to import
    from evals.report.summary import Level
    from evals.report.write import write_report

    console = Console(stderr=True)
    with options.one_clear_line(console):
        beside = read_published(published) if published else []
        where = output or folders[0]
        typer.echo(write_report(folders, where, Level(delta, tried, seed), reference, beside, texts=texts))
        console.print(f"report.md, report.json and report.html are in {where}", markup=False)


@app.command()
def divergence(
    benchmark: options.BenchmarkName,
    output: options.Output,
    url: options.Url = "http://127.0.0.1:8000",
    model: options.Model = None,
    power: Annotated[str | None, typer.Option(help="how answers are drawn, as JSON (default: low temperature)")] = None,
    alpha: Annotated[float, typer.Option(min=0, help="exponent of the redraws; 0 for plain sampling")] = 4.0,
    positions: Annotated[int, typer.Option(min=1, help="positions from the top and from the bottom tenth")] = 5,
    resamples: Annotated[int, typer.Option(min=2, max=128, help="redraws from each position")] = 16,
    suffix_tokens: Annotated[int, typer.Option(min=1, help="longest redraw")] = 192,
    top: Annotated[int, typer.Option(min=1, help="log-probabilities a position, for the entropies")] = 20,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    concurrency: options.Concurrency = 4,
    prompt_style: options.PromptStyle = None,
    prompt_template: options.PromptTemplate = None,
    max_tokens: options.MaxTokens = None,
    unsafe: options.Unsafe = False,
    max_stops: options.MaxStops = None,
    data: options.Data = None,
    api_key: options.ApiKey = None,
    answer_timeout: options.Timeout = 3600.0,
    retries: options.Retries = 8,
) -> None:
    """Redraw answers from where entropy jumps and from where it does not, and compare how much they diverge."""
    console = Console(stderr=True)
    with options.one_clear_line(console):
        chosen = options.benchmark_named(benchmark)
        probe = Probe(positions, resamples, suffix_tokens, alternatives=top, alpha=alpha)
        drawn: dict[str, object] | None = {"method": "low_temperature", "alpha": alpha} if alpha else None
        arm = Arm("trace", read_object(power, "--power") if power else drawn)
        plan = Plan(
            chosen,
            (arm,),
            None,
            url,
            model,
            output,
            style=options.style_of(prompt_style, prompt_template),
            limit=limit,
            repeats=1,
            seed=seed,
            max_tokens=max_tokens,
            concurrency=concurrency,
            max_stops=max_stops,
            unsafe=unsafe,
            data=data,
            keys=options.keys_of(url, api_key, ()),
            probe=probe,
            patience=Patience(answer_s=answer_timeout, retries=retries),
        )
        asyncio.run(carry_out(plan, console))
        from evals.probing import write_divergence  # scipy takes a second to import

        typer.echo(write_divergence(output, probe))
        console.print(f"divergence.md and divergence.json are in {output}", markup=False)


def finish(plan: Plan, console: Console) -> None:
    """Carry a plan out and say where its records are; calls that failed show in the exit code."""
    failed = asyncio.run(carry_out(plan, console))
    console.print(f"records in {plan.output}; `powercut-eval report {plan.output}` sums them up", markup=False)
    if failed:
        said = f"{failed} calls failed and are recorded as such; the same command asks them again"
        options.give_up(console, said, options.SOME_FAILED)


def main() -> None:
    """The console script."""
    sys.exit(app())
