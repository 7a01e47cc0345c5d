"""The store's files, owners and tables, on both databases."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError

from service.errors import ApiError
from service.jobs import wiring
from service.jobs.database import HEAD, Database, db_now
from service.jobs.outcome import response_outcome
from service.jobs.rows import Key
from service.jobs.store import Store
from service.jobs.tables import batches, files, metadata, results
from service.jobs.unavailable import StoreUnavailable
from tests.jobs.stores import MODEL, batch, look, settings


def test_nobody_sees_the_files_and_batches_of_another(store: Store) -> None:
    made = batch(store, 1)
    file_id = look(store, made)["input_file_id"]
    for call in (
        lambda: store.files.get("bob", file_id),
        lambda: store.files.delete("bob", file_id),
        lambda: store.batches.get("bob", made),
        lambda: store.batches.cancel("bob", made),
        lambda: store.batches.create("bob", "/v1/completions", MODEL, file_id, "24h", {}),
        lambda: store.files.page("bob", None, file_id, 10, newest_first=True),
        lambda: store.batches.page("bob", made, 10),
    ):
        with pytest.raises(ApiError) as error:
            call()
        assert error.value.status == 404
    assert store.files.page("bob", None, None, 10, newest_first=True) == ([], False)
    assert store.batches.page("bob", None, 10) == ([], False)


@pytest.mark.slow
def test_files_expire_but_not_under_an_open_batch(store: Store) -> None:
    made = batch(store, 1)
    used = look(store, made)["input_file_id"]
    upload = store.files.begin("alice")
    upload.write(b"{}\n")
    unused = upload.finish("x", "batch", None)["id"]
    abandoned = store.files.begin("alice")
    abandoned.write(b"half of it")
    with store.database.write() as connection:
        connection.execute(update(files).values(expires_at=db_now() - 1.0, created_at=db_now() - 7300.0))
    store.files.sweep()
    assert store.files.get("alice", used)["id"] == used
    with pytest.raises(ApiError, match="no file"):
        store.files.get("alice", unused)
    with store.database.read() as connection:
        assert connection.execute(select(files.c.id)).scalars().all() == [used]
    abandoned.drop()


def test_an_upload_that_may_still_arrive_is_not_swept(database_url: str | None, tmp_path: Path) -> None:
    store = Store(settings(tmp_path, database_url, upload_timeout_s=20_000.0))
    arriving = store.files.begin("alice")
    arriving.write(b"{}\n")
    with store.database.write() as connection:
        connection.execute(update(files).values(created_at=db_now() - 19_000.0))
    for part in tmp_path.rglob("*.part"):
        old = time.time() - 19_000.0
        os.utime(part, (old, old))
    store.files.sweep()
    kept = arriving.finish("x", "batch", None)["id"]
    assert b"".join(store.files.content.read(kept)) == b"{}\n"
    store.close()


def test_a_folder_where_nobody_can_say_that_he_lives_is_an_unavailable_store(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("in the way")
    store = Store(settings(tmp_path, None))
    with pytest.raises(StoreUnavailable, match="data folder") as said:
        store.take_over("w")
    assert str(tmp_path) not in str(said.value)
    store.close()


async def test_a_sweep_that_fails_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(settings(tmp_path, None))
    batch(store, 1)
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("a bug")

    monkeypatch.setattr(store.files, "sweep", fail)
    monkeypatch.setattr(wiring, "SWEEP_S", 0.01)
    sweeping = asyncio.create_task(wiring._sweep(store))
    while calls < 3:
        await asyncio.sleep(0.01)
    assert not sweeping.done()
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    assert "unexpected error while looking for expired files" in caplog.text
    store.close()


def test_a_key_that_stores_too_much_is_told_to_delete_some(database_url: str | None, tmp_path: Path) -> None:
    store = Store(settings(tmp_path, database_url, max_stored_bytes=2000))
    upload = store.files.begin("alice")
    upload.write(b" " * 2000)
    made = upload.finish("x", "batch", None)["id"]
    with pytest.raises(ApiError, match="delete some"):
        store.files.begin("alice")
    store.files.begin("bob").drop()
    store.files.delete("alice", made)
    store.files.begin("alice").drop()
    store.close()


def test_bytes_come_back_from_any_offset(store: Store) -> None:
    data = bytes(range(256)) * 3000
    upload = store.files.begin("alice", is_input=False)
    for start in range(0, len(data), 100_000):
        upload.write(data[start : start + 100_000])
    upload.keep()
    with store.database.write() as connection:
        upload.record(connection, "x", "batch_output")
    for offset in (0, 1, 262_143, 262_144, 700_001, len(data)):
        assert b"".join(store.files.content.read(upload.id, offset)) == data[offset:]


def test_migrations_make_the_tables_that_the_code_reads(store: Store) -> None:
    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD


def test_servers_that_start_at_once_migrate_once(database_url: str | None, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        database = Database(database_url, tmp_path / "new")
        try:
            with database.read() as connection:
                connection.execute(select(batches)).all()
        except BaseException as error:
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_database_of_a_newer_version_is_left_alone(store: Store, database_url: str | None, tmp_path: Path) -> None:
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    later = Database(database_url, tmp_path)
    with pytest.raises(StoreUnavailable, match="newer powercut"), later.read():
        pass
    later.close()


def test_a_second_result_of_a_row_cannot_be_written(store: Store) -> None:
    line = {"batch_id": "b", "number": 1, "ok": True, "line": "{}"}
    with store.database.write() as connection:
        connection.execute(insert(results).values(**line))
    with pytest.raises(IntegrityError), store.database.write() as connection:
        connection.execute(insert(results).values(**line))


def test_an_outcome_of_a_row_that_never_was_is_dropped(store: Store) -> None:
    made = batch(store, 1)
    store.rows.save("w", [response_outcome(Key(made, 99), "x", 200, {})])
    assert look(store, made)["request_counts"]["completed"] == 0
