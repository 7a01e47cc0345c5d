"""Options as they were given: those of the library behind an engine, and which of a method's were given at all."""

from collections.abc import Sequence
from typing import Any

import typer

from sampler.errors import InvalidParams


def engine_args(words: Sequence[str]) -> dict[str, Any] | None:
    """`--name value`, `--name=value` and `--flag` as a mapping; None for no words."""
    found: dict[str, Any] = {}
    name: str | None = None
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, given, value = word[2:].partition("=")
            name = name.replace("-", "_")
            found[name] = value if given else True
            name = None if given else name
        elif name is not None:
            found[name], name = word, None
        else:
            raise InvalidParams("engine_args", f"unexpected argument {word!r}; powercut serve --help lists the options")
    return found or None


RENAMED = {"steps": "steps_per_block", "html": "include"}
"""Options of `powercut sample` named otherwise than the parameter they set, or need: a page shows what chains tell."""


def given_options(context: typer.Context) -> dict[str, str]:
    """Parameter → option, for every option that stands on the command line."""
    given = {}
    for option in context.command.params:
        source = context.get_parameter_source(option.name) if option.name else None
        if option.name and source is not None and source.name == "COMMANDLINE":
            given[RENAMED.get(option.name, option.name)] = option.opts[0]
    return given
