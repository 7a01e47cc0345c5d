"""A batch of any length takes little memory, and its first results come before its file has been read to the end."""

import time
from pathlib import Path

import pytest
from sqlalchemy import select

from service.jobs.database import Database
from service.jobs.tables import batches, files
from service.jobs.tend import WINDOW_LINES
from tests.jobs.servers import ServerProcess, completion_row, content, look, submit, tabular

GROWTH_BYTES = 48 << 20


def resident(server: ServerProcess) -> int:
    """Bytes of memory of a server."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def share_read(data: Path) -> float:
    """How far the input file has become rows."""
    database = Database(None, data)
    with database.read() as connection:
        query = select(batches.c.read_bytes, files.c.bytes).join(files, files.c.id == batches.c.input_file_id)
        read, whole = connection.execute(query).one()
    database.close()
    return read / whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines", [4 * WINDOW_LINES, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_memory_stays_flat_and_results_come_early(lines: int, table_file: Path, tmp_path: Path) -> None:
    options = tabular(table_file, tmp_path / "data", None, batch_rows=32, lease_s=30)
    server = ServerProcess(options, tmp_path / "log.txt")
    with server.running() as url:
        batch = submit(url, [completion_row(number, power=None, max_tokens=2) for number in range(lines)])
        began = time.monotonic()
        while not (done := look(url, batch)["request_counts"]["completed"]):
            time.sleep(0.01)
        read, first_s = share_read(tmp_path / "data"), time.monotonic() - began
        while done < lines // 10:
            time.sleep(0.05)
            done = look(url, batch)["request_counts"]["completed"]
        early = resident(server)
        while look(url, batch)["status"] != "completed":
            time.sleep(0.1)
        spent, late = time.monotonic() - began, resident(server)
        found = look(url, batch)
        assert found["request_counts"] == {"total": lines, "completed": lines, "failed": 0, "resumed": 0}
        numbers = [line["custom_id"] for line in content(url, found["output_file_id"])]
        assert numbers == [f"row-{number}" for number in range(lines)]
    print(
        f"\n{lines} lines: {lines / spent:.0f} rows a second; first result after {first_s:.2f} s with {read:.1%} "
        f"of the file read; memory {early >> 20} MiB after a tenth, {late >> 20} MiB at the end"
    )
    assert read < 0.6
    assert late - early < GROWTH_BYTES
