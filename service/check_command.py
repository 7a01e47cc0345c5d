"""`powercut self-check`: whether a running engine gives what the method rests on, as a table."""

import asyncio
from time import monotonic

import typer
from rich.console import Console
from rich.table import Table

from sampler.engine import Engine, load_engine
from sampler.self_check import Finding, self_check
from service.options import (
    ApiKey,
    Device,
    DType,
    EngineName,
    EosIds,
    ModelName,
    TokenizerName,
    Urls,
    engine_options,
    one_clear_line,
)

WORDS = {True: "holds", False: "FAILS", None: "not told"}


def check_engine(
    context: typer.Context,
    engine: EngineName = "transformers",
    model: ModelName = None,
    dtype: DType = None,
    device: Device = None,
    url: Urls = None,
    api_key: ApiKey = None,
    tokenizer: TokenizerName = None,
    eos_ids: EosIds = None,
) -> None:
    """Check a live engine: statistics, seeds, prefix reuse, early rejection, cut law. Exit code 1 if one fails."""
    with one_clear_line():
        options = engine_options(context, model, dtype, device, url, api_key, tokenizer, eos_ids)
        loaded = load_engine(engine, options)
    start = monotonic()
    findings = asyncio.run(_run(loaded))
    info = loaded.info
    table = Table(title=f"{info.model} on the {info.name} engine, {monotonic() - start:.1f} s", title_justify="left")
    for column in ("check", "", "what was seen"):
        table.add_column(column)
    for finding in findings:
        table.add_row(finding.name, WORDS[finding.holds], finding.detail)
    Console().print(table)
    if any(finding.holds is False for finding in findings):
        raise typer.Exit(1)


async def _run(engine: Engine) -> list[Finding]:
    try:
        return await self_check(engine)
    finally:
        await engine.aclose()
