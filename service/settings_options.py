"""Every field of `Settings` as an option of a command, so that `--help` shows all of them and none is listed twice."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from service.settings import PREFIX, Settings

PANEL = "Settings"
METAVARS: dict[Any, str] = {int: "INTEGER", float: "NUMBER"}


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each setting to a command that has a parameter `settings`, which gets those given."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
    options = [option(name, field) for name, field in Settings.model_fields.items()]

    @wraps(command)
    def called(*args: Any, **kwargs: Any) -> None:
        given = {name: kwargs.pop(name) for name in Settings.model_fields}
        command(*args, settings={name: value for name, value in given.items() if value is not None}, **kwargs)

    called.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *options]}
    return called


def option(name: str, field: FieldInfo) -> inspect.Parameter:
    """A setting as a keyword parameter whose default None leaves it to the environment.

    All but switches are read as text: `Settings` itself says what a value may be.
    """
    flag, switch = "--" + name.replace("_", "-"), field.annotation is bool
    declared = f"{flag}/--no{flag[1:]}" if switch else flag
    metavar = None if switch else METAVARS.get(field.annotation, "TEXT")
    described = typer.Option(
        declared,
        help=f"{field.description} [{PREFIX}{name.upper()}; default: {shown_default(field)}]",
        metavar=metavar,
        show_default=False,
        rich_help_panel=PANEL,
    )
    annotation = Annotated[(bool if switch else str) | None, described]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def shown_default(field: FieldInfo) -> str:
    """A default as people write it."""
    if field.default is None:
        return "none"
    if isinstance(field.default, bool):
        return "yes" if field.default else "no"
    return str(field.default)
