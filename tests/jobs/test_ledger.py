"""Privacy budgets when several servers debit at once, and when one is killed with a release half told."""

import json
import multiprocessing
import signal
import sys
from decimal import Decimal
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import select

from service.analysis.metering import BudgetSpent, Charge, Stored
from service.jobs.database import Database
from service.jobs.ledger import StoreLedger
from service.jobs.tables import releases
from service.settings import Settings
from tests.jobs.servers import ServerProcess, content, create, finish, jsonl, tabular, upload

BUDGET, COST, SETS = 3.0, 1.5, 30
ROWS = [[float((i * 37) % 101 - 50), float((i * 53) % 89 - 44), 0.5] for i in range(64)]
BODY: dict[str, Any] = {
    "data": ROWS,
    "subspace_dim": 1,
    "method": "gaussian_covariance",  # always releases, and two draws are never the same
    "row_norm_bound": 80.0,
    "dataset_id": "survey",
}
URL = "/v1/analysis/private-subspace"
ROW = {"custom_id": "only", "method": "POST", "url": URL, "body": BODY}


def debit_often(url: str | None, folder: Path, begin: Barrier, told: Any) -> None:
    """What each process does: debits twice from each data set, when the others do; tells how many went through."""
    database = Database(url, folder)
    ledger = StoreLedger(database, Settings(data_dir=folder, privacy_budget_epsilon=BUDGET))
    with database.read() as connection:
        connection.execute(select(releases))  # connected before it begins
    went = 0
    for number in range(SETS):
        begin.wait(60)
        for _ in range(2):
            try:
                ledger.debit("alice", Charge(f"survey-{number}", None, COST, 1e-9, "digest"))
                went += 1
            except BudgetSpent:
                pass
    database.close()
    told.put(went)


def stored(url: str | None, folder: Path) -> list[Any]:
    """The ledger's rows."""
    database = Database(url, folder)
    try:
        with database.read() as connection:
            return [*connection.execute(select(releases))]
    finally:
        database.close()


def keep_snapshots(database_url: str) -> None:
    """Somebody has set the database so that a transaction sees only what was there when it began."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = Identifier(connection.info.dbname)
        connection.execute(SQL("ALTER DATABASE {} SET default_transaction_isolation TO 'repeatable read'").format(name))


@pytest.mark.slow
def test_processes_that_debit_at_once_never_overspend(database_url: str | None, tmp_path: Path) -> None:
    """Four debits of each data set, of which two fit: exactly those go through, whoever gets them."""
    if database_url is not None:
        keep_snapshots(database_url)
    stored(database_url, tmp_path)  # the tables are made
    spawn = multiprocessing.get_context("spawn")
    begin, told = spawn.Barrier(2), spawn.Queue()
    processes = [spawn.Process(target=debit_often, args=(database_url, tmp_path, begin, told)) for _ in range(2)]
    for process in processes:
        process.start()
    went = [told.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    kept = stored(database_url, tmp_path)
    assert sum(went) == len(kept)
    for number in range(SETS):
        spent = [Decimal(row.epsilon) for row in kept if row.dataset_id == f"survey-{number}"]
        assert sum(spent) == Decimal(str(BUDGET)), "never more, and never less for a lock"


def test_two_debits_under_one_name_are_one(database_url: str | None, tmp_path: Path) -> None:
    """A row that two servers run at once, for one was thought dead, costs once; the release stored first is kept."""
    settings = Settings(data_dir=tmp_path, privacy_budget_epsilon=BUDGET)
    databases = [Database(database_url, tmp_path) for _ in range(2)]
    charge = Charge("survey", "batch_1/1", COST, 1e-9, "digest")
    accounts = [StoreLedger(database, settings).debit("alice", charge) for database in databases]
    first, second = (
        StoreLedger(database, settings).settle("alice", "survey", "batch_1/1", Stored(draw, b""))
        for database, draw in zip(databases, (b"a draw", b"another"), strict=True)
    )
    for database in databases:
        database.close()
    assert accounts[0] == accounts[1]
    assert first == second == Stored(b"a draw", b"")
    (kept,) = stored(database_url, tmp_path)
    assert Decimal(kept.epsilon) == Decimal(str(COST))


class MortalServer(ServerProcess):
    """A server that is killed after a moment of its ledger, while one is set."""

    moment: str | None = None

    def command_line(self, words: list[str]) -> list[str]:
        """The program with the fault in place of the service's."""
        assert words[:3] == [sys.executable, "-m", "service"]
        return [sys.executable, "-m", "tests.jobs.dying", self.moment, *words[3:]] if self.moment else words

    def await_death(self) -> None:
        """Wait until it was killed."""
        assert self.process is not None
        assert self.process.wait(120) == -signal.SIGKILL, self.log.read_text()[-2000:]
        self.process = None


@pytest.mark.slow
def test_a_server_killed_at_each_moment_draws_and_debits_once(
    database_url: str | None, table_file: Path, tmp_path: Path
) -> None:
    """Killed after the debit, then after the release was stored: the row ends with that release, the same bytes."""
    server = MortalServer(tabular(table_file, tmp_path, database_url), tmp_path / "log.txt")
    try:
        server.moment = "debit"
        server.start()
        server.wait()
        batch = create(server.url, upload(server.url, jsonl([ROW]))["id"], URL)["id"]
        server.await_death()
        (debited,) = stored(database_url, tmp_path)
        assert debited.reply is None
        server.moment = "settle"
        server.start()
        server.await_death()
    finally:
        server.kill()
    (released,) = stored(database_url, tmp_path)
    assert released.release_id == debited.release_id
    assert released.created_at == debited.created_at
    server.moment = None
    with server.running() as url:
        done = finish(url, batch)
        (line,) = content(url, done["output_file_id"])
    assert done["request_counts"]["completed"] == 1
    assert stored(database_url, tmp_path) == [released], "not drawn again, not debited again"
    reply = line["response"]["body"]
    assert reply == json.loads(released.reply)
    assert reply["released"] is True
    assert reply["privacy"]["budget_remaining"]["epsilon"] == 2.0
