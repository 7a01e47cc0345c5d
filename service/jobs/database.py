"""One database: SQLite in the data folder, or PostgreSQL by URL. One clock for everybody, the database's own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from service.jobs.unavailable import StoreFull, StoreUnavailable, unavailable

HEAD = "0002"
"""The newest migration; a database that has it needs no look at the others."""
MIGRATION_LOCK = 7_301_605
"""PostgreSQL's advisory lock under which one replica migrates while the others wait."""
BUSY_S = 30
"""How long a writer of SQLite waits for another."""
READS = "powercut_reads"


class db_now(FunctionElement[float]):  # noqa: N801 (it stands in SQL like a function)
    """The database's clock, in seconds since 1970, so that the clocks of several servers need not agree."""

    type = Double()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite_now(element: Any, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgres_now(element: Any, compiler: Any, **options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


class Database:
    """A connection pool that opens at first use, migrates once, and says in one line what is wrong."""

    def __init__(self, url: str | None, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.is_postgres = url is not None
        self._engine = self._sqlite(data_dir) if url is None else self._postgres(url)
        self._migrating = threading.Lock()
        self._migrated = False

    @property
    def exists(self) -> bool:
        """Whether there may be work in it; a SQLite file that nobody has made yet holds none."""
        place = self._engine.url.database
        return self.is_postgres or (place is not None and Path(place).exists())

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction; raises `StoreUnavailable` where the database is."""
        with self._translated():
            self._migrate()
            with self._engine.begin() as connection:
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, and waits for no writer."""
        with self._translated():
            self._migrate()
            with self._engine.connect().execution_options(**{READS: True}) as connection:
                yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _sqlite(self, data_dir: Path) -> Engine:
        place = f"sqlite:///{data_dir / 'jobs.sqlite3'}"
        engine = create_engine(place, connect_args={"timeout": BUSY_S, "check_same_thread": False})

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, record: Any) -> None:
            connection.isolation_level = None  # transactions begin below, and not where the driver thinks
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")  # a finished row survives a power cut too

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            reads = connection.get_execution_options().get(READS, False)
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

        return engine

    def _postgres(self, url: str) -> Engine:
        if not url.startswith("postgres"):
            raise ValueError("database_url: must be a postgresql:// URL; without one, SQLite is in data_dir")
        try:
            place = make_url(url).set(drivername="postgresql+psycopg")
            connect = {"connect_timeout": 5, "options": "-c statement_timeout=60000", "tcp_user_timeout": 10_000}
            # Whatever this database's default is: what waited for a lock must see what was committed meanwhile.
            isolation = "READ COMMITTED"
            return create_engine(
                place, isolation_level=isolation, pool_pre_ping=True, pool_timeout=10, connect_args=connect
            )
        except (ArgumentError, ValueError):
            raise ValueError("database_url: not a URL like postgresql://user:password@host/name") from None
        except (ModuleNotFoundError, NoSuchModuleError):
            raise ValueError("database_url: PostgreSQL needs `pip install powercut[postgres]`") from None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, InternalError) as error:  # others are faults of ours
            reason = str(error.orig).splitlines()[0] if str(error.orig) else type(error.orig).__name__
            kind = StoreFull if kind_of(reason) == FULL else StoreUnavailable
            raise kind(f"the job database cannot be used now ({kind_of(reason)})") from error
        except PoolTimeout as error:
            raise StoreUnavailable("the job database cannot be used now (all connections are busy)") from error
        except OSError as error:
            raise unavailable(error) from error

    def _migrate(self) -> None:
        if self._migrated:
            return
        with self._migrating:
            if self._migrated:
                return
            if not self.is_postgres:
                self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)  # prompts and answers are in it
            with self._engine.begin() as connection:
                if self.is_postgres:
                    connection.execute(select(text(f"pg_advisory_xact_lock({MIGRATION_LOCK})")))
                if version_of(connection) != HEAD:
                    upgrade(connection)
            self._migrated = True


FULL = "the disk is full"
REASONS = {
    "is full": FULL,
    "No space left": FULL,
    "readonly": "it is read-only",
    "read-only": "it is read-only",
    "unable to open": "its file cannot be opened",
    "is locked": "another writer holds it",
    "refused": "nobody answers there",
    "authentication": "the password is refused",
    "closed": "the connection was lost",
    "terminating": "it is stopping",
    "starting up": "it is starting up",
    "shutting down": "it is stopping",
    "disk I/O": "the disk fails",
    "malformed": "the file is damaged",
}
"""What a driver's message holds → what callers read. Messages themselves may name hosts, users and paths."""


def kind_of(reason: str) -> str:
    """A driver's message in our words."""
    return next((ours for theirs, ours in REASONS.items() if theirs in reason), "it does not answer as it should")


def version_of(connection: Connection) -> str | None:
    """The last migration that the database has seen, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(connection: Connection) -> None:
    """Bring the schema up to date within the connection's transaction."""
    from alembic import command  # half a second that only the first start pays
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "service.jobs:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreUnavailable("the job database was made by a newer powercut") from error
