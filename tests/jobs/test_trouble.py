"""A full disk, a folder that cannot be written, a database that is away: said clearly, waited out, nothing lost."""

import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.jobs.postgres import running_postgres
from tests.jobs.servers import (
    ServerProcess,
    answers,
    ask,
    completion_row,
    content,
    finish,
    look,
    submit,
    tabular,
)
from tests.service.checks import assert_error, assert_still_answers

pytestmark = pytest.mark.slow  # each starts servers, kills them and starts them again

ROWS = 200


def assert_interactive(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60, verify=False) as http:
        assert_still_answers(http)


def refused_upload(url: str, size: int = 1 << 20) -> httpx.Response:
    form: dict[str, Any] = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", b" " * size)}}
    return ask("POST", f"{url}/v1/files", **form)


def wait_for_rows(url: str, batch: str, rows: int) -> None:
    while look(url, batch)["request_counts"]["completed"] < rows:
        time.sleep(0.02)


def can_mount() -> bool:
    """Whether this user may mount in a namespace of its own."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


class Mounted(ServerProcess):
    """A server whose data folder is a file system of its own, mounted where only it sees it."""

    def __init__(self, options: list[str], log: Path, folder: Path, how: str, first: str = "true") -> None:
        super().__init__(options, log)
        folder.mkdir()
        self.script = f"mount -t tmpfs -o {how} tmpfs {shlex.quote(str(folder))} && {first} && exec "

    def command_line(self, words: list[str]) -> list[str]:
        return ["unshare", "-rm", "sh", "-c", self.script + shlex.join(words)]


class Piped(ServerProcess):
    """A server whose log is written by somebody else, whom its limits do not bind."""

    def command_line(self, words: list[str]) -> list[str]:
        return ["bash", "-c", 'exec > >(cat >> "$0") 2>&1; exec "$@"', str(self.log), *words]


@contextmanager
def small_files(server: ServerProcess, tmp_path: Path) -> Iterator[None]:
    """No file may grow: what a disk quota does."""
    assert server.process is not None
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def full_disk(server: ServerProcess, tmp_path: Path) -> Iterator[None]:
    """A file fills the disk."""
    assert server.process is not None
    folder = f"/proc/{server.process.pid}/root{tmp_path / 'data'}"  # as the server sees it
    fill = subprocess.run(["dd", "if=/dev/zero", f"of={folder}/filler", "bs=4096"], capture_output=True, check=False)
    assert b"No space left" in fill.stderr
    yield
    Path(f"{folder}/filler").unlink()


@pytest.mark.parametrize("how", [small_files, full_disk])
def test_a_full_disk_is_said_and_the_batch_goes_on_when_there_is_space(
    how: Any, table_file: Path, tmp_path: Path
) -> None:
    options = tabular(table_file, tmp_path / "data", None, checkpoint_s=0.2)
    if how is small_files:
        server: ServerProcess = Piped(options, tmp_path / "log.txt")
    elif can_mount():
        server = Mounted(options, tmp_path / "log.txt", tmp_path / "data", "size=8m")
    else:
        pytest.skip("no file system can be mounted here, to be filled")
    with server.running() as url:
        long = {"power": {"blocks": 8, "steps_per_block": 12}}
        batch = submit(url, [completion_row(number, **(long if number >= 10 else {})) for number in range(ROWS)])
        wait_for_rows(url, batch, 10)
        with how(server, tmp_path):
            error = assert_error(refused_upload(url), 507 if how is full_disk else 503)
            assert error["code"] in {"insufficient_storage", "store_unavailable"}
            assert str(tmp_path) not in error["message"]
            assert_interactive(url)
            stuck = look(url, batch)["request_counts"]["completed"]  # reading needs no space
            time.sleep(3.0)
            assert look(url, batch)["request_counts"]["completed"] <= stuck + 16
        done = finish(url, batch)
        assert done["request_counts"] == {"total": ROWS, "completed": ROWS, "failed": 0, "resumed": 0}
        assert len(answers(content(url, done["output_file_id"]))) == ROWS
    log = (tmp_path / "log.txt").read_text()
    assert "batch jobs wait" in log
    assert "unexpected error" not in log


@pytest.mark.parametrize("how", ["in the way", "read-only"])
def test_a_folder_that_cannot_be_written_is_said_and_requests_are_answered(
    how: str, table_file: Path, tmp_path: Path
) -> None:
    options = tabular(table_file, tmp_path / "data", None)
    if how == "in the way":
        (tmp_path / "data").write_text("a file where the folder should be")
        server = ServerProcess(options, tmp_path / "log.txt")
    elif can_mount():
        server = Mounted(options, tmp_path / "log.txt", tmp_path / "data", "ro")
    else:
        pytest.skip("no file system can be mounted here, to be read-only")
    with server.running() as url:
        reply = refused_upload(url, 1000)
        error = assert_error(reply, 503)
        assert error["code"] == "store_unavailable"
        assert int(reply.headers["retry-after"]) > 0
        assert str(tmp_path) not in error["message"]
        assert_error(ask("GET", f"{url}/v1/batches"), 503)
        assert_interactive(url)


def test_a_database_that_goes_away_is_waited_out(table_file: Path, tmp_path: Path) -> None:
    with running_postgres() as postgres:
        server = ServerProcess(
            tabular(table_file, tmp_path / "data", postgres.new_database(), checkpoint_s=0.2), tmp_path / "log.txt"
        )
        with server.running() as url:
            batch = submit(url, [completion_row(number) for number in range(ROWS)])
            wait_for_rows(url, batch, 10)
            postgres.stop()
            for path in (f"/v1/batches/{batch}", "/v1/files", "/v1/batches"):
                error = assert_error(ask("GET", f"{url}{path}"), 503)
                assert error["code"] == "store_unavailable"
            assert_error(refused_upload(url, 1000), 503)
            assert_interactive(url)
            time.sleep(1.5)  # longer than the lease
            postgres.start()
            done = finish(url, batch)
            found = content(url, done["output_file_id"])
        assert done["request_counts"]["completed"] == ROWS
        assert len(answers(found)) == ROWS


def test_a_server_whose_database_is_away_from_the_start_answers_and_finds_it_later(
    table_file: Path, tmp_path: Path
) -> None:
    with running_postgres() as postgres:
        database_url = postgres.new_database()
        postgres.stop()
        server = ServerProcess(tabular(table_file, tmp_path / "data", database_url), tmp_path / "log.txt")
        with server.running() as url:
            assert_error(ask("GET", f"{url}/v1/batches"), 503)
            assert_interactive(url)
            postgres.start()
            done = finish(url, submit(url, [completion_row(1)]))
            assert done["status"] == "completed"


def test_a_stop_gives_rows_back_with_their_last_stage(table_file: Path, tmp_path: Path) -> None:
    long = {"power": {"blocks": 24, "steps_per_block": 60}, "max_tokens": 24}
    server = ServerProcess(
        tabular(table_file, tmp_path / "data", None, lease_s=600, checkpoint_s=600), tmp_path / "log.txt"
    )
    with server.running() as url:
        batch = submit(url, [completion_row(0), *(completion_row(number, **long) for number in range(1, 20))])
        wait_for_rows(url, batch, 1)  # the short one: of twenty alike, all may end before the stop arrives
        server.kill(15)
        assert server.exit_code == 0, "an orderly stop"
        server.start()
        server.wait()
        done = finish(url, batch)
        assert done["request_counts"]["completed"] == 20
        assert done["request_counts"]["resumed"] > 0, "saved by the stop, ten minutes before its time"
