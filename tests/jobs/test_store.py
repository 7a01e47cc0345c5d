"""The store's promises, on both databases: turns, leases, exactly one result a row, whoever dies at whatever moment."""

import threading
import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select, update

from service.errors import ApiError
from service.jobs.database import db_now
from service.jobs.rows import LOSSES_LIMIT, Again, Claimed, share_out, unpack
from service.jobs.store import Store
from service.jobs.tables import batches, results, rows
from service.jobs.tend import UNREADABLE_S, WINDOW_LINES
from service.jobs.unavailable import StoreUnavailable
from tests.jobs.servers import completion_row
from tests.jobs.stores import MODEL, answered, batch, look, output, silence, tend_all


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
    result = answered(second, "quick")
    assert other.rows.save("quick", [result]) == [result]
    assert store.rows.save("slow", [answered(first, "slow")]) == [], "which is what the metrics count"
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


@pytest.mark.slow
def test_a_row_to_be_tried_again_waits_first(store: Store) -> None:
    batch(store, 1)
    tend_all(store)
    (row,) = store.rows.claim("w", MODEL, 1)
    store.rows.save("w", [], [Again(row.key, 60.0, counted=True)])
    assert store.rows.claim("w", MODEL, 1) == []
    with store.database.write() as connection:
        connection.execute(update(rows).values(not_before=rows.c.not_before - 60.0))
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("overdue", [False, True])
def test_an_expired_batch_waits_for_its_file_but_not_for_ever(
    overdue: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = batch(store, 1100)
    store.tending.tend("tender", MODEL)
    read = store.files.content.read

    def unreadable(file_id: str, offset: int = 0) -> Any:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(store.files.content, "read", unreadable)
    with store.database.write() as connection:
        connection.execute(update(batches).values(expires_at=db_now() - (2 * UNREADABLE_S if overdue else 1.0)))
    if overdue:
        tend_all(store)
    else:
        with pytest.raises(StoreUnavailable):
            tend_all(store)
        assert look(store, made)["status"] == "in_progress"
    monkeypatch.setattr(store.files.content, "read", read)
    tend_all(store)
    done = look(store, made)
    assert done["status"] == "expired"
    assert len(output(store, made, "error_file_id")) == (WINDOW_LINES if overdue else 1100)


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
