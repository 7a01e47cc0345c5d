"""One real powercut server on a table for the evals' tests."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.serving import serving_command
from tests.service.tables import letters_table


@pytest.fixture(scope="session")
def powercut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a `powercut serve` on a table of letters."""
    folder: Path = tmp_path_factory.mktemp("letters")
    (folder / "letters.json").write_text(json.dumps(letters_table(horizon=8)))
    options = ["--engine", "tabular", "--model", str(folder / "letters.json")]
    with serving_command(options, folder / "log.txt") as url:
        yield url
    assert "Traceback" not in (folder / "log.txt").read_text()
