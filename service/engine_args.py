"""Options of `powercut serve` that belong to the library behind an engine, passed on by their own names."""

from collections.abc import Sequence
from typing import Any

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
