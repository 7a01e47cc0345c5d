"""Tests against the real vLLM, in an environment of its own (`make test-vllm`).

Without vLLM they are left out; where they were asked for, one test says so, and in CI it fails.
"""

import asyncio
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

collect_ignore_glob: list[str] = []
if find_spec("vllm") is None:
    asked = bool(os.environ.get("POWERCUT_VLLM"))
    here = Path(__file__).parent
    collect_ignore_glob = [p.name for p in here.glob("test_*.py") if not (asked and p.name == "test_available.py")]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.vllm.models import tiny_checkpoint

    return tiny_checkpoint(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def network(checkpoint: Path) -> Any:
    from tests.vllm.models import load_network

    return load_network(checkpoint)


@pytest.fixture(scope="session")
def tiny(checkpoint: Path) -> Iterator[Any]:
    from tests.vllm.models import tiny_engine

    engine = tiny_engine(checkpoint)
    yield engine
    asyncio.run(engine.aclose())
