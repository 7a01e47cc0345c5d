"""`powercut key NAME`: a new API key, shown once, and the line that lets it in."""

from typing import Annotated

import typer

from sampler.errors import InvalidParams
from service.auth import is_loopback
from service.keys import new_key, read_keys
from service.options import one_clear_line
from service.settings import Settings, revealed


def make_key(name: Annotated[str, typer.Argument(help="whose key it is; shown in logs")]) -> None:
    """Make an API key. It is printed once and stored nowhere; the server keeps its hash."""
    with one_clear_line():
        key, line = new_key(name)
    typer.echo(f"key, for the caller, shown only now:\n{key}\n")
    typer.echo(f"line for --key-file (or POWERCUT_KEYS) of the server:\n{line}")


def refuse_open_door(settings: Settings) -> None:
    """Raise `InvalidParams` for bad keys, and where others could call this server and none is set."""
    keys = read_keys(revealed(settings.keys), settings.key_file)
    if keys or is_loopback(settings.host) or settings.allow_public_without_keys:
        return
    raise InvalidParams(
        "host",
        f"{settings.host} can be reached by others and no key is set: make one with `powercut key NAME` and give "
        "--key-file (or POWERCUT_KEYS), or say --allow-public-without-keys",
    )
