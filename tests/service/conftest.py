"""One real server for the session, and clients of it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.service.serving import serving_command
from tests.service.tables import letters_table

MODEL = "letters"
START_S = 240.0
"""vLLM takes a minute to start."""


@pytest.fixture(scope="session")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table that the server serves."""
    path = tmp_path_factory.mktemp("table") / f"{MODEL}.json"
    path.write_text(json.dumps(letters_table()))
    return path


@pytest.fixture(scope="session")
def server(table_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running `powercut serve`: on a table, or on vLLM with POWERCUT_TEST_ENGINE=vllm."""
    if os.environ.get("POWERCUT_TEST_ENGINE") == "vllm":
        from tests.vllm.models import text_checkpoint

        model = text_checkpoint(tmp_path_factory.mktemp("tiny-text"))
        options = ["--engine", "vllm", "--model", str(model), "--served-model-name", MODEL]
    else:
        options = ["--engine", "tabular", "--model", str(table_file)]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving_command(options, log, START_S) as url:
        yield url
    written = log.read_text()
    assert "unexpected error" not in written, "no request of any test is an unexpected error"
    assert "Traceback" not in written


@pytest.fixture(scope="session")
def http(server: str) -> Iterator[httpx.Client]:
    """A plain HTTP client of the running server."""
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[openai.OpenAI]:
    """The official client of the running server."""
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client
