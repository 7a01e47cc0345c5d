"""Servers that pages talk to."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.service.serving import serving_command
from tests.service.tables import letters_table

SERVED = "SmolLM2-135M-Instruct"
"""The model's name in every page: the table is served under it."""


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model small enough to answer at once."""
    path = tmp_path_factory.mktemp("docs") / f"{SERVED}.json"
    path.write_text(json.dumps(letters_table(horizon=6)))
    return path


@pytest.fixture(scope="session")
def table_server(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on the table."""
    options = ["--engine", "tabular", "--model", str(table), "--batch-poll-s", "0.1"]
    with serving_command(options, tmp_path_factory.mktemp("table-server") / "log.txt", 240) as url:
        yield url


@pytest.fixture(scope="session")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on the default model, which a fresh machine converts first."""
    with serving_command([], tmp_path_factory.mktemp("model-server") / "log.txt", 280) as url:
        yield url


@pytest.fixture(scope="session")
def benchmark_files() -> Path | None:
    """The benchmarks' files, where the machine has them."""
    folder = Path(os.environ.get("POWERCUT_TEST_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "humaneval.jsonl.gz").is_file() else None
