"""Two servers share the batches of one PostgreSQL; one is killed, and nothing is lost or done twice."""

import time
from pathlib import Path

import pytest

from tests.jobs.postgres import Postgres
from tests.jobs.servers import ServerProcess, answers, completion_row, content, finish, look, submit, tabular

ROWS = 300


@pytest.mark.slow
def test_two_servers_share_a_batch_and_one_is_killed(postgres: Postgres, table_file: Path, tmp_path: Path) -> None:
    database_url = postgres.new_database()
    first, second = (
        # folders of their own: they share nothing but the database, and the first one's clock is an hour ahead
        ServerProcess(
            tabular(table_file, tmp_path / name, database_url, checkpoint_s=0.2),
            tmp_path / f"{name}.txt",
        )
        for name in ("first", "second")
    )
    first.start()
    with second.running() as url:
        first.wait()
        batch = submit(first.url, [completion_row(number) for number in range(ROWS)])
        while look(url, batch)["request_counts"]["completed"] < ROWS // 3:
            time.sleep(0.02)
        shared = {name: rows_done(server.url) for name, server in (("first", first), ("second", second))}
        first.kill()
        done = finish(url, batch)
        found = content(url, done["output_file_id"])
        assert shared["first"] > 0
        assert shared["second"] > 0, "both took part"
    assert done["request_counts"]["completed"] == ROWS
    assert len(answers(found)) == ROWS
    assert done["request_counts"]["resumed"] > 0, "the second took over what the first was at"


def rows_done(url: str) -> float:
    """Rows that this server has finished."""
    from tests.service.serving import metric

    return metric(url, "powercut:batch_rows_total", event="done")
