"""Settings: each has bounds, a meaning, an option and a variable; the page that lists them says the same."""

import math
import re
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from service.cli import app
from service.settings import PREFIX, Settings, settings_from
from service.settings_options import shown_default
from tests.service.serving import ROOT

FIELDS = Settings.model_fields
NUMBERS = [name for name, field in FIELDS.items() if field.annotation in (int, float)]


def bounds(name: str) -> dict[str, float]:
    """The bounds of a setting: ge, gt, le, lt."""
    found: dict[str, float] = {}
    for part in FIELDS[name].metadata:
        found |= {bound: getattr(part, bound) for bound in ("ge", "gt", "le", "lt") if hasattr(part, bound)}
    return found


@pytest.mark.parametrize("name", FIELDS)
def test_each_setting_says_what_it_means(name: str) -> None:
    description = FIELDS[name].description
    assert description
    assert not description.endswith(".")
    assert len(description) <= 100


@pytest.mark.parametrize("name", NUMBERS)
def test_each_number_has_both_bounds_and_no_value_beyond(name: str) -> None:
    limits = bounds(name)
    assert limits.keys() & {"ge", "gt"}
    assert limits.keys() & {"le", "lt"}
    low, high = limits.get("ge", limits.get("gt", 0)), limits.get("le", limits.get("lt", 0))
    for bad in (low - 1, high + 1, "much", "", None, math.nan, math.inf):
        with pytest.raises(ValidationError):
            settings_from({name: bad})


def test_whatever_is_no_number_is_bounded_by_its_kind() -> None:
    for name in FIELDS.keys() - set(NUMBERS):
        kind = FIELDS[name].annotation
        kinds = set(get_args(kind)) - {type(None)} or {kind}
        assert name in {"host", "keys"} or kinds <= {bool, Path} or get_origin(kind) is not None, (name, kind)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_variable_sets_it_and_an_option_wins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = bounds(name)
    first = max(math.ceil(limits.get("ge", limits.get("gt", 0))), 1)
    second = min(first + 1, limits.get("le", math.inf))
    monkeypatch.setenv(PREFIX + name.upper(), str(first))
    assert getattr(settings_from({}), name) == first
    assert getattr(settings_from({name: str(second)}), name) == second


def test_settings_are_frozen_and_take_no_unknown_one() -> None:
    with pytest.raises(ValidationError):
        Settings().drain_s = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings_from({"drains": 1})


def test_keys_are_never_shown() -> None:
    line = "alice:" + "5" * 64
    assert "5555" not in repr(settings_from({"keys": line}))


def help_text() -> str:
    """`powercut serve --help` without its boxes."""
    result = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "300", "TERM": "dumb"}, color=False)
    assert result.exit_code == 0
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", result.stdout).split())


def test_the_help_shows_every_setting_with_its_variable_and_default() -> None:
    shown = help_text()
    for name, field in FIELDS.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert f"[{PREFIX}{name.upper()}; default: {shown_default(field)}]" in shown
        assert str(field.description) in shown


def test_the_page_of_operation_lists_every_setting_as_it_is() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))
    assert list(listed) == list(FIELDS), "same settings in the same order"
    for name, field in FIELDS.items():
        assert listed[name] == f"{shown_default(field)} | {field.description}"


@pytest.mark.parametrize(
    ("options", "env", "says"),
    [
        (["--port", "70000"], {}, "--port (POWERCUT_PORT): Input should be less than or equal to 65535"),
        (["--drain-s", "soon"], {}, "--drain-s (POWERCUT_DRAIN_S)"),
        (["--max-n", "0"], {"POWERCUT_MAX_N": "5"}, "--max-n"),
        ([], {"POWERCUT_MAX_N": "many"}, "(POWERCUT_MAX_N)"),
        (["--log-level", "loud"], {}, "--log-level"),
        (["--key-file", "/nowhere/keys"], {}, "key file /nowhere/keys: No such file"),
        (["--keys", "alice"], {}, "NAME:HASH"),
    ],
)
def test_a_bad_value_is_one_clear_line(
    options: list[str], env: dict[str, Any], says: str, table_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["serve", "--engine", "tabular", "--model", str(table_file), *options])
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("powercut: ")
    assert says in line
