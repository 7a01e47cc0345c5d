"""The house of the design: registries match files, files stay short, nothing heavy is imported by accident."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sampler.cuts import CUTS
from sampler.engines import ENGINES
from sampler.methods import METHODS
from service.errors import TABLE

ROOT = Path(__file__).parents[2]
LONGEST = 350


def modules(folder: str, besides: set[str]) -> set[str]:
    """Files and packages of a registry's folder."""
    found = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    found |= {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    return found - besides


def test_every_engine_is_one_module_and_one_line() -> None:
    assert modules("sampler/engines", {"huggingface"}) == {
        line.split(":")[0].split(".")[-1] for line in ENGINES.values()
    }
    assert modules("sampler/engines", {"huggingface"}) == set(ENGINES)


def test_every_cut_law_is_one_file_and_one_line() -> None:
    assert modules("sampler/cuts", set()) == set(CUTS)


def test_every_method_file_is_registered() -> None:
    served = {f"{cut}_cut" for cut in CUTS}
    assert modules("sampler/methods", {"job", "power_mh", "parallel"}) == set(METHODS) - served


def test_every_sampler_error_has_a_status() -> None:
    import sampler.errors as errors

    raised = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    raised -= {errors.SamplerError}
    assert all(any(ancestor in TABLE for ancestor in kind.__mro__) for kind in raised)


def sources() -> list[Path]:
    return [path for folder in ("sampler", "service", "evals") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short_and_state_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(text)), "every module opens with what it is for"
    assert path.stem not in {"utils", "helpers", "common", "misc"}


@pytest.mark.slow
@pytest.mark.parametrize("module", ["service.app", "service.cli", "sampler.chain", "sampler.engines.tabular"])
def test_importing_the_service_brings_nothing_heavy(module: str) -> None:
    code = f"import {module}, sys; print([m for m in ('torch', 'transformers', 'vllm', 'ray') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
