"""A batch survives kill -9 at any moment: every row has exactly one result, the one it would have had."""

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.servers import ServerProcess, answers, content, finish, look, mixed_row, submit, tabular

ROWS = 500


@pytest.fixture(scope="module")
def undisturbed(table_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The answers of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    server = ServerProcess(tabular(table_file, folder / "data", None), folder / "log.txt")
    with server.running() as url:
        done = finish(url, submit(url, [mixed_row(number) for number in range(ROWS)]))
        assert done["request_counts"] == {"total": ROWS, "completed": ROWS, "failed": 0, "resumed": 0}
        return answers(content(url, done["output_file_id"]))


def check_kills(
    kills: int, seed: int, undisturbed: dict[str, Any], table: Path, folder: Path, database_url: str | None
) -> None:
    rng = random.Random(seed)
    server = ServerProcess(tabular(table, folder / "data", database_url), folder / "log.txt")
    with server.running() as url:
        batch = submit(url, [mixed_row(number) for number in range(ROWS)])
        resumed = [kill_at(server, batch, done, rng) for done in sorted(rng.choices(range(ROWS), k=kills))]
        done = finish(url, batch)
        found = content(url, done["output_file_id"])
    begun_again = done["request_counts"]["resumed"]
    print(f"\n{kills} kills, after which {begun_again} rows were begun again; counts at the kills: {resumed}")
    assert begun_again > 0, "some rows were running when the server was killed"
    assert done["request_counts"]["completed"] == ROWS
    assert done["request_counts"]["failed"] == 0
    assert [line["custom_id"] for line in found] == [f"row-{number}" for number in range(ROWS)], "in their order"
    assert answers(found) == undisturbed


def kill_at(server: ServerProcess, batch: str, done: int, rng: random.Random) -> int:
    """Kill the server a moment after so many rows are done, sometimes also while it starts; how many were done."""
    while (seen := look(server.url, batch)["request_counts"]["completed"]) < done:
        time.sleep(0.01)
    time.sleep(rng.uniform(0.0, 0.05))
    server.kill()
    server.start()
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0.0, 1.0))
        server.kill()
        server.start()
    server.wait()
    return seen


@pytest.mark.slow
def test_a_batch_survives_ten_kills(
    undisturbed: dict[str, Any], table_file: Path, tmp_path: Path, database_url: str | None
) -> None:
    check_kills(10, 1, undisturbed, table_file, tmp_path, database_url)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_batch_survives_a_hundred_kills(
    undisturbed: dict[str, Any], table_file: Path, tmp_path: Path, database_url: str | None
) -> None:
    check_kills(100, 2, undisturbed, table_file, tmp_path, database_url)
