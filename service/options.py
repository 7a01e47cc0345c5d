"""Options that several commands share, and how a wrong call is answered."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import ValidationError

from sampler.engine import EngineOptions
from sampler.engines import ENGINES
from sampler.errors import SamplerError
from service.engine_args import engine_args
from service.version import VERSION

EngineName = Annotated[str, typer.Option("--engine", help=f"one of {', '.join(ENGINES)}")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Hugging Face name, folder, .gguf file, or table (default: SmolLM2-135M)")
]
DType = Annotated[str | None, typer.Option("--dtype", help="bf16, fp32 or fp64 (default: fp32 on CPU, bf16 on CUDA)")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 (default: cuda if there is one)")]
MaxRows = Annotated[int | None, typer.Option(min=1, max=4096, help="proposals that run at once (32)")]
KVBytes = Annotated[int | None, typer.Option(min=0, help="bytes of all keys and values (1 GiB)")]
Urls = Annotated[list[str] | None, typer.Option("--url", help="a vLLM server for the remote engine; may be repeated")]
ApiKey = Annotated[str | None, typer.Option("--api-key", envvar="POWERCUT_REMOTE_API_KEY", help="its key")]
TokenizerName = Annotated[str | None, typer.Option("--tokenizer", help="of the remote engine: name or folder")]
EosIds = Annotated[list[int] | None, typer.Option("--eos-ids", help="end ids of the remote engine; may be repeated")]


def tell_version(told: bool) -> None:
    """Print what is installed, and end."""
    if told:
        typer.echo(f"powercut {VERSION}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=tell_version, is_eager=True, help="say which version")]

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
"""For commands whose other options go to the library behind the engine."""


def engine_options(
    context: typer.Context,
    model: str | None,
    dtype: str | None,
    device: str | None,
    url: list[str] | None,
    api_key: str | None,
    tokenizer: str | None,
    eos_ids: list[int] | None,
    served_name: str | None = None,
    max_rows: int | None = None,
    kv_cache_bytes: int | None = None,
) -> EngineOptions:
    """What a command line asks of an engine."""
    return EngineOptions(
        model,
        served_name,
        dtype,
        device,
        max_rows,
        kv_cache_bytes,
        url=tuple(url) if url else None,
        api_key=api_key,
        tokenizer=tokenizer,
        eos_ids=tuple(eos_ids) if eos_ids else None,
        engine_args=engine_args(context.args),
    )


@contextmanager
def one_clear_line() -> Iterator[None]:
    """Say in one line what is wrong with the call, and leave with exit code 2."""
    try:
        yield
    except (SamplerError, ValidationError) as error:
        wrong = error.errors()[0] if isinstance(error, ValidationError) else None
        line = wrong_setting(str(wrong["loc"][0]), str(wrong["msg"])) if wrong else error
        typer.echo(f"powercut: {line}", err=True)
        raise typer.Exit(2) from None


def wrong_setting(name: str, message: str) -> str:
    """What is wrong with a setting, by both of its names."""
    return f"--{name.replace('_', '-')} (POWERCUT_{name.upper()}): {message}"
