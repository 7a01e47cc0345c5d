"""A PostgreSQL server of the test's own, run by a user who is not root, on a socket in a folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

USERS = ("postgres", "nobody")
"""Who runs it where the tests are run by root, whom initdb refuses."""


def find_binary(name: str) -> str | None:
    """A program of PostgreSQL: on the path, or where Debian keeps it."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(places[-1]) if places else None)


def require_postgres() -> None:
    """Skip without PostgreSQL; in CI that is a failure."""
    if find_binary("initdb") is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed, and CI must test on it")
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")


class Postgres:
    """A running server; databases on it are made as needed."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self.folder, self._user = folder, user
        self._made = 0

    def start(self) -> None:
        """Start, and wait until it answers."""
        # Only clients are killed here, so the server need not wait for the disk.
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """Stop at once, whoever is connected."""
        self._control("stop", "-m", "immediate")

    def new_database(self) -> str:
        """The URL of a fresh database."""
        self._made += 1
        name = f"jobs{self._made}"
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of its programs as its user."""
        binary = find_binary(program)
        assert binary is not None
        log = self.folder / f"{program}.log"
        with log.open("ab") as output:
            done = subprocess.run(
                [binary, *arguments],
                user=self._user,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
            )
        assert done.returncode == 0, log.read_text(errors="replace")

    def _control(self, *words: str) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", *words)


def someone_else(names: Sequence[str] = USERS) -> str | None:
    """A user to run it, None for the one who runs the tests."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in names if name in known)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server from its making to its end."""
    require_postgres()
    user = someone_else()
    folder = Path(tempfile.mkdtemp(prefix="powercut-pg-"))  # short: a socket's path has a limit
    if user is not None:
        shutil.chown(folder, user)
    server = Postgres(folder, user)
    try:
        server.run("initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
