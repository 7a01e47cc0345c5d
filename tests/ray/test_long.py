"""What takes minutes on Ray: replicas that come as work waits, and the page's config file under Serve's command."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.jobs.postgres import running_postgres
from tests.ray.cluster import START_S, RayServer, require_ray, running
from tests.ray.test_cluster import ask, key, told
from tests.ray.test_config_file import documented
from tests.service.serving import ROOT, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@contextmanager
def crowd(server: RayServer, size: int) -> Iterator[None]:
    """So many clients that ask without a pause."""
    over = threading.Event()

    def keep_asking(number: int) -> None:
        while not over.is_set():
            ask(server.url, number, key(server))

    threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(size)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_replica_is_started_when_tokens_wait(table_file: Path, tmp_path: Path) -> None:
    require_ray()
    options = [
        "--min-replicas",
        "1",
        "--max-replicas",
        "2",
        "--target-queued-tokens",
        "100",
        "--max-running-requests",
        "1",
    ]
    with running([*options, "--engine", "tabular", "--model", str(table_file)], tmp_path) as server:
        assert len(told(server, "powercut:queued_tokens")) == 1
        with crowd(server, 8):
            wait_until(lambda: len(told(server, "powercut:queued_tokens")) == 2, "a second replica", START_S)


def test_serve_runs_the_file_of_the_page(table_file: Path, tmp_path: Path) -> None:
    require_ray()
    server = RayServer([], tmp_path)  # for its environment and its end
    config, file = documented(), tmp_path / "config.yaml"
    config["http_options"]["port"] = server.port
    config["applications"][0]["args"] |= {"engine": "tabular", "model": str(table_file), "max_replicas": 1}
    file.write_text(yaml.safe_dump(config))
    with running_postgres() as postgres, server.log.open("wb") as output:
        server.process = subprocess.Popen(
            [str(Path(sys.executable).parent / "serve"), "run", str(file)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=server.environment | {"POWERCUT_DATABASE_URL": postgres.new_database()},
        )
        try:
            wait_until(lambda: answers(server), "the application", START_S)
            assert ask(server.url, 1).json()["error"]["code"] == "invalid_api_key", "keys come from the environment"
            assert ask(server.url, 1, key(server)).status_code == 200
            server.process.send_signal(signal.SIGINT)
            server.process.wait(120)
        finally:
            server.clean()


def answers(server: RayServer) -> bool:
    """Whether some replica takes requests; before, the proxy says so in our words, or nobody answers."""
    assert server.process.poll() is None, server.log.read_text()[-4000:]
    try:
        reply = httpx.get(f"{server.url}/readyz", timeout=10)
    except httpx.TransportError:
        return False
    assert isinstance(json.loads(reply.text), dict)
    return reply.status_code == 200
