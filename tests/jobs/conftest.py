"""PostgreSQL for those who ask for it, and the table that batches are run on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs.store import Store
from tests.jobs.postgres import Postgres, running_postgres
from tests.jobs.stores import settings
from tests.service.tables import letters_table


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the session."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table that the servers serve."""
    path = tmp_path_factory.mktemp("table") / "letters.json"
    path.write_text(json.dumps(letters_table()))
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Each of the two databases: None is SQLite in the data folder."""
    if request.param == "sqlite":
        return None
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def store(database_url: str | None, tmp_path: Path) -> Iterator[Store]:
    """A store, as one server has it."""
    store = Store(settings(tmp_path, database_url, lease_s=60))
    yield store
    store.close()


@pytest.fixture
def other(store: Store, database_url: str | None, tmp_path: Path) -> Iterator[Store]:
    """The same store, as another server has it."""
    other = Store(settings(tmp_path, database_url, lease_s=60))
    yield other
    other.close()
