"""Two servers share the batches of one PostgreSQL; one is killed, and nothing is lost or done twice."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.postgres import Postgres
from tests.jobs.servers import ServerProcess, answers, completion_row, content, finish, look, submit, tabular
from tests.service.serving import metric, wait_until

SHORT, ROWS = 100, 140


@pytest.mark.slow
def test_two_servers_share_a_batch_and_one_is_killed(postgres: Postgres, table_file: Path, tmp_path: Path) -> None:
    database_url = postgres.new_database()
    first, second = (
        # folders of their own: they share nothing but the database
        ServerProcess(
            tabular(table_file, tmp_path / name, database_url, checkpoint_s=0.2),
            tmp_path / f"{name}.txt",
        )
        for name in ("first", "second")
    )
    first.start()
    with second.running() as url:
        first.wait()
        batch = submit(first.url, [row(number) for number in range(ROWS)])
        while look(url, batch)["request_counts"]["completed"] < SHORT:
            time.sleep(0.02)
        wait_until(lambda: all(rows_done(server.url) for server in (first, second)), "both to take part")
        first.kill()
        done = finish(url, batch)
        found = content(url, done["output_file_id"])
    assert done["request_counts"]["completed"] == ROWS
    assert len(answers(found)) == ROWS
    assert done["request_counts"]["resumed"] > 0, "the second took over what the first was at"


def row(number: int) -> dict[str, Any]:
    """Short ones, then longer and longer ones: both servers are at something when one of them is killed."""
    steps = 3 * (number - SHORT + 1)
    return completion_row(number, **({"power": {"blocks": 24, "steps_per_block": steps}} if steps > 0 else {}))


def rows_done(url: str) -> float:
    """Rows that this server has finished."""
    return metric(url, "powercut:batch_rows_total", event="done")
