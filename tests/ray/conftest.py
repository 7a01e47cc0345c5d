"""The table that replicas serve."""

import json
from pathlib import Path

import pytest

from tests.service.tables import letters_table


@pytest.fixture(scope="session")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the documented format."""
    path = tmp_path_factory.mktemp("table") / "letters.json"
    path.write_text(json.dumps(letters_table()))
    return path
