"""The store's promises, on both databases: turns, leases, exactly one result a row, whoever dies at whatever moment."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError

from service.errors import ApiError
from service.jobs.database import HEAD, Database, db_now
from service.jobs.outcome import response_outcome
from service.jobs.rows import LOSSES_LIMIT, Again, Claimed, Key, share_out, unpack
from service.jobs.store import Store
from service.jobs.tables import batches, files, metadata, results, rows
from service.jobs.unavailable import StoreUnavailable
from service.settings import Settings
from tests.jobs.servers import completion_row, jsonl

MODEL = "letters"


def settings(folder: Path, database_url: str | None, **given: Any) -> Settings:
    return Settings(data_dir=folder, database_url=SecretStr(database_url) if database_url else None, **given)


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


def batch(store: Store, count: int, owner: str = "alice", model: str | None = MODEL, window: str = "24h") -> str:
    """The id of a batch of so many rows."""
    upload = store.files.begin(owner)
    upload.write(jsonl([completion_row(number) for number in range(count)]))
    file = upload.finish("in.jsonl", "batch", None)
    return store.batches.create(owner, "/v1/completions", model, file["id"], window, {})["id"]


def silence(store: Store) -> None:
    """Everybody has been silent for longer than the lease."""
    with store.database.write() as connection:
        connection.execute(update(rows).values(leased_until=db_now() - 1.0))


def answered(row: Claimed, text: str = "hi") -> Any:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "power": {"generated_tokens": 5, "steps": 3, "accepted": 1}}
    return response_outcome(row.key, row.custom_id, 200, {"text": text, "usage": usage})


def tend_all(store: Store) -> None:
    while store.tending.tend("tender", MODEL):
        pass


def look(store: Store, batch_id: str, owner: str = "alice") -> dict[str, Any]:
    return store.batches.get(owner, batch_id)


def output(store: Store, batch_id: str, kind: str = "output_file_id") -> list[dict[str, Any]]:
    file_id = look(store, batch_id)[kind]
    data = b"".join(store.files.content.read(file_id))
    return [json.loads(line) for line in data.splitlines()]


def test_a_batch_goes_from_file_to_rows_to_results_to_file(store: Store) -> None:
    made = batch(store, 3)
    assert look(store, made)["status"] == "validating"
    tend_all(store)
    assert look(store, made)["status"] == "in_progress"
    claimed = store.rows.claim("w", MODEL, 10)
    assert [row.custom_id for row in claimed] == ["row-0", "row-1", "row-2"]
    assert claimed[0].body == completion_row(0)["body"]
    store.rows.save("w", [answered(row) for row in claimed])
    tend_all(store)
    done = look(store, made)
    assert done["status"] == "completed"
    assert done["usage"]["power"] == {"generated_tokens": 15, "steps": 9, "accepted": 3, "moved": 0}
    assert [line["custom_id"] for line in output(store, made)] == ["row-0", "row-1", "row-2"]
    with store.database.read() as connection:
        assert not connection.execute(select(rows)).all(), "nothing is left of it but its files"
        assert not connection.execute(select(results)).all()


def test_two_servers_never_claim_the_same_row(store: Store, other: Store) -> None:
    batch(store, 60)
    tend_all(store)
    found: list[Claimed] = []
    lock = threading.Lock()

    def claim(side: Store, worker: str) -> None:
        while got := side.rows.claim(worker, MODEL, 3):
            with lock:
                found.extend(got)

    threads = [
        threading.Thread(target=claim, args=(side, f"w{number}"))
        for number, side in enumerate((store, other, store, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(row.key.number for row in found) == Counter(range(1, 61))


def test_a_row_whose_worker_is_silent_is_taken_over_and_has_one_result(store: Store, other: Store) -> None:
    made = batch(store, 1)
    tend_all(store)
    (first,) = store.rows.claim("slow", MODEL, 1)
    store.rows.save("slow", [], checkpoints={first.key: {"stage": 1, "value": float("inf")}})
    assert other.rows.claim("quick", MODEL, 1) == [], "it is leased"
    assert store.rows.beat("slow") == {first.key}
    silence(store)
    (second,) = other.rows.claim("quick", MODEL, 1)
    assert second.key == first.key
    assert second.checkpoint is not None
    assert unpack(second.checkpoint) == {"stage": 1, "value": float("inf")}
    assert second.was_begun
    assert store.rows.beat("slow") == set(), "the slow one hears that it has lost the row"
    store.rows.save("slow", [], checkpoints={first.key: {"stage": 7}})
    other.rows.save("quick", [answered(second, "quick")])
    store.rows.save("slow", [answered(first, "slow")])
    assert look(store, made)["request_counts"] == {"total": 1, "completed": 1, "failed": 0, "resumed": 1}
    tend_all(store)
    store.rows.save("slow", [answered(first, "slow")])  # also after the batch has ended
    assert [line["response"]["body"]["text"] for line in output(store, made)] == ["quick"]
    with store.database.read() as connection:
        assert not connection.execute(select(results)).all()


def test_a_worker_that_beats_keeps_its_rows(store: Store, other: Store) -> None:
    batch(store, 1)
    tend_all(store)
    assert store.rows.claim("w", MODEL, 1)
    silence(store)
    store.rows.beat("w")
    assert other.rows.claim("other", MODEL, 1) == []


def test_the_clock_of_a_server_plays_no_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    made = batch(store, 2)
    monkeypatch.setattr(time, "time", lambda: real() + 3600)  # this server's clock is an hour ahead
    tend_all(store)
    assert len(store.rows.claim("ahead", MODEL, 1)) == 1
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    assert len(store.rows.claim("behind", MODEL, 2)) == 1, "only what is waiting"
    assert store.rows.beat("ahead")
    assert abs(look(store, made)["created_at"] - real()) < 60


def test_a_claim_that_was_written_but_not_answered_is_given_back(store: Store) -> None:
    batch(store, 4)
    tend_all(store)
    kept = store.rows.claim("w", MODEL, 2)
    store.rows.claim("w", MODEL, 2)  # whose answer is lost
    store.rows.give_back("w", frozenset(row.key for row in kept))
    again = store.rows.claim("w", MODEL, 4)
    assert {row.key.number for row in again} == {3, 4}
    assert not any(row.was_begun for row in again)


def test_a_row_on_which_worker_after_worker_dies_is_given_up(store: Store) -> None:
    batch(store, 1)
    tend_all(store)
    for life in range(LOSSES_LIMIT):
        (row,) = store.rows.claim(f"w{life}", MODEL, 1)
        assert not row.is_given_up
        store.rows.release(f"w{life}", died=True)
    (row,) = store.rows.claim("last", MODEL, 1)
    assert row.is_given_up
    store.rows.save("last", [], checkpoints={row.key: {"stage": 1}})
    store.rows.release("last", died=True)
    (row,) = store.rows.claim("w", MODEL, 1)
    assert not row.is_given_up, "a finished stage is progress"


def test_a_row_to_be_tried_again_waits_first(store: Store) -> None:
    batch(store, 1)
    tend_all(store)
    (row,) = store.rows.claim("w", MODEL, 1)
    store.rows.save("w", [], [Again(row.key, 0.4, counted=True)])
    assert store.rows.claim("w", MODEL, 1) == []
    time.sleep(0.5)
    (row,) = store.rows.claim("w", MODEL, 1)
    assert row.failures == 1


def test_keys_take_turns_however_much_one_of_them_sends(store: Store) -> None:
    for _ in range(2):
        batch(store, 50, "greedy")
    modest = batch(store, 6, "modest")
    tend_all(store)
    first = store.rows.claim("w", MODEL, 8)
    assert Counter(row.owner for row in first) == {"greedy": 4, "modest": 4}
    assert len({row.key.batch_id for row in first if row.owner == "greedy"}) == 2, "its batches share its part"
    store.rows.save("w", [answered(row) for row in first if row.owner == "modest"])
    second = store.rows.claim("w", MODEL, 4)
    assert [row.owner for row in second].count("modest") == 2, "all it has left"
    store.rows.save("w", [answered(row) for row in second])
    tend_all(store)
    assert look(store, modest, "modest")["status"] == "completed", "long before the greedy ones"


@pytest.mark.parametrize("wanted", [1, 2, 7, 30])
def test_shares_are_even_among_owners_and_then_among_their_batches(wanted: int) -> None:
    waiting = [(f"a{i}", "a", float(i)) for i in range(3)] + [("b0", "b", 0.0), ("c0", "c", 5.0)]
    shares = share_out(waiting, [("b0", "b", 2)], wanted)
    of_owner = Counter({"b": 2}) + Counter(dict.fromkeys("abc", 0))
    for batch_id, count in shares.items():
        of_owner[batch_id[0]] += count
    assert sum(shares.values()) == wanted
    assert max(of_owner.values()) - min(of_owner.get(owner, 0) for owner in "abc") <= (2 if wanted < 4 else 1)
    own = [shares.get(f"a{i}", 0) for i in range(3)]
    assert max(own) - min(own) <= 1


def test_a_server_runs_the_rows_of_its_own_model(store: Store) -> None:
    batch(store, 1, model="another")
    free = batch(store, 1, model=None)
    tend_all(store)
    assert {row.key.batch_id for row in store.rows.claim("w", MODEL, 9)} == {free}


def test_a_cancelled_batch_has_no_rows_and_its_late_results_go_nowhere(store: Store) -> None:
    made = batch(store, 700)
    tend_all(store)
    claimed = store.rows.claim("w", MODEL, 5)
    store.rows.save("w", [answered(claimed[0])])
    assert store.batches.cancel("alice", made)["status"] == "cancelling"
    assert store.rows.beat("w") == set()
    store.rows.save("w", [answered(row) for row in claimed[1:]])
    tend_all(store)
    done = look(store, made)
    assert done["status"] == "cancelled"
    assert done["request_counts"]["completed"] == 1
    assert [line["custom_id"] for line in output(store, made)] == ["row-0"]
    with pytest.raises(ApiError, match="cannot be cancelled"):
        store.batches.cancel("alice", made)


def test_an_expired_batch_has_an_error_for_each_row_also_for_those_never_read(store: Store) -> None:
    made = batch(store, 1100)
    tend_all(store)
    store.rows.save("w", [answered(row) for row in store.rows.claim("w", MODEL, 3)])
    store.rows.claim("w", MODEL, 3)
    with store.database.write() as connection:
        connection.execute(update(batches).values(expires_at=db_now() - 1.0))
    tend_all(store)
    done = look(store, made)
    assert done["status"] == "expired"
    assert done["request_counts"] == {"total": 1100, "completed": 3, "failed": 1097, "resumed": 0}
    assert len(output(store, made)) == 3
    late = output(store, made, "error_file_id")
    assert [line["custom_id"] for line in late] == [f"row-{number}" for number in range(3, 1100)]
    assert {line["error"]["code"] for line in late} == {"batch_expired"}


def test_results_written_down_half_way_are_written_down_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = batch(store, 2)
    tend_all(store)
    store.rows.save("w", [answered(row) for row in store.rows.claim("w", MODEL, 2)])
    whole = store.files.begin
    calls = 0

    def break_off(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        raise StoreUnavailable("gone")

    monkeypatch.setattr(store.files, "begin", break_off)
    with pytest.raises(StoreUnavailable):
        tend_all(store)
    assert look(store, made)["status"] == "finalizing"
    monkeypatch.setattr(store.files, "begin", whole)
    tend_all(store)
    assert calls == 1
    assert len(output(store, made)) == 2


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


def test_files_expire_but_not_under_an_open_batch(store: Store) -> None:
    made = batch(store, 1)
    used = look(store, made)["input_file_id"]
    upload = store.files.begin("alice")
    upload.write(b"{}\n")
    unused = upload.finish("x", "batch", None)["id"]
    abandoned = store.files.begin("alice")
    abandoned.write(b"half of it")
    with store.database.write() as connection:
        connection.execute(update(files).values(expires_at=db_now() - 1.0, created_at=db_now() - 7200.0))
    store.files.sweep()
    assert store.files.get("alice", used)["id"] == used
    with pytest.raises(ApiError, match="no file"):
        store.files.get("alice", unused)
    with store.database.read() as connection:
        assert connection.execute(select(files.c.id)).scalars().all() == [used]
    abandoned.drop()


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
