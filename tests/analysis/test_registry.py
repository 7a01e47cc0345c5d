"""The registry: packages and lines match, and nothing heavy is imported before there is work."""

import inspect
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from service.analysis import ANALYSES
from service.analysis.frame import AnalysisRequest, AnalysisResponse, Context, ReplyPart, SeededRequest

PACKAGE = Path(__file__).parents[2] / "service" / "analysis"
FRAME = {"analyst", "described", "frame", "metering", "pool", "run", "worker"}
UNBOUNDED = {"private-subspace.data"}
"""Numbers of any size count as a zero row there: a refusal would tell of a row."""


def test_every_package_is_registered_and_nothing_else() -> None:
    there = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} - FRAME
    there |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    works = {analysis.work.split(".")[2] for analysis in ANALYSES.values()}
    schemas = {analysis.request.__module__.split(".")[2] for analysis in ANALYSES.values()}
    assert works | schemas == there


@pytest.mark.parametrize("name", list(ANALYSES))
def test_compute_and_draw_take_and_give_the_registered_types(name: str) -> None:
    analysis = ANALYSES[name]
    work = analysis.load()
    assert typing.get_type_hints(work.compute) == {
        "request": analysis.request,
        "context": Context,
        "return": analysis.response,
    }
    drawn = [one.annotation for one in inspect.signature(work.draw).parameters.values()]
    assert drawn == [analysis.request, analysis.response]
    assert issubclass(analysis.request, SeededRequest) == analysis.seeded
    assert issubclass(analysis.request, AnalysisRequest)
    assert issubclass(analysis.response, AnalysisResponse)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, one in ANALYSES.items() if one.seeded and not one.job_only])
def test_a_seed_fixes_the_reply(name: str) -> None:
    analysis = ANALYSES[name]
    request = analysis.request.model_validate(analysis.example)
    work = analysis.load()
    first, second = (work.compute(request, Context(11)) for _ in range(2))
    assert first.seed == 11
    assert first.model_dump_json() == second.model_dump_json()


def parts(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model and all models in its fields."""
    found = {model}
    stack: list[Any] = [field.annotation for field in model.model_fields.values()]
    while stack:
        one = stack.pop()
        stack.extend(typing.get_args(one))
        if isinstance(one, type) and issubclass(one, BaseModel) and one not in found:
            found |= parts(one)
    return found


@pytest.mark.parametrize("name", list(ANALYSES))
def test_requests_are_strict_and_replies_hold_no_nan(name: str) -> None:
    for part in parts(ANALYSES[name].request):
        assert part.model_config.get("extra") == "forbid"
        assert part.model_config.get("strict")
        assert part.model_config.get("allow_inf_nan") is False
    for part in parts(ANALYSES[name].response):
        assert part.model_config.get("allow_inf_nan") is False


BOUNDS = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "enum", "const", "$ref"}


def unbounded(schema: dict[str, Any], where: str) -> list[str]:
    """Places of a JSON schema where a value may be as large as it likes."""
    found: list[str] = []
    if schema.get("type") in {"integer", "number", "string", "array"} and not BOUNDS & schema.keys():
        found.append(where)
    for key, inner in schema.get("properties", {}).items():
        found += unbounded(inner, f"{where}.{key}")
    for inner in [*([schema["items"]] if "items" in schema else []), *schema.get("anyOf", [])]:
        found += unbounded(inner, where)
    return found


@pytest.mark.parametrize("name", list(ANALYSES))
def test_every_field_of_a_request_is_bounded(name: str) -> None:
    schema = ANALYSES[name].request.model_json_schema()
    found = unbounded(schema, name)
    for key, inner in schema.get("$defs", {}).items():
        found += unbounded(inner, key)
    assert set(found) <= UNBOUNDED


def test_a_reply_with_a_nan_is_refused() -> None:
    class Part(ReplyPart):
        number: float

    with pytest.raises(ValidationError):
        Part(number=float("nan"))


@pytest.mark.slow
@pytest.mark.parametrize("module", ["service.app", "service.cli", "service.analysis", "service.analysis.worker"])
def test_the_service_starts_without_the_libraries_of_the_work(module: str) -> None:
    heavy = ("scipy", "matplotlib", "torch", "pandas", "sympy")
    code = f"import {module}, sys; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_work_imports_no_torch_and_matplotlib_only_to_draw() -> None:
    modules = sorted({analysis.work for analysis in ANALYSES.values() if not analysis.own_process})
    found = "[m for m in ('torch', 'matplotlib') if m in sys.modules]"
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; print({found})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
