"""What takes minutes on Ray: replicas that come as work waits, and the page's config file under Serve's command."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import yaml

from tests.jobs.postgres import running_postgres
from tests.ray.cluster import START_S, RayServer, require_ray, running
from tests.ray.test_cluster import ask, key, told
from tests.ray.test_config_file import documented
from tests.service.serving import ROOT, command, free_port, wait_until

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
    server = RayServer([], tmp_path)
    config, file = documented(), tmp_path / "config.yaml"
    config["http_options"]["port"] = server.port
    config["applications"][0]["args"] |= {"engine": "tabular", "model": str(table_file), "max_replicas": 1}
    file.write_text(yaml.safe_dump(config))
    with running_postgres() as postgres, ending(server):
        server.launch([program("serve"), "run", str(file)], POWERCUT_DATABASE_URL=postgres.new_database())
        wait_until(lambda: answers(server), "the application", START_S)
        assert ask(server.url, 1).json()["error"]["code"] == "invalid_api_key", "keys come from the environment"
        assert ask(server.url, 1, key(server)).status_code == 200
        server.process.send_signal(signal.SIGINT)
        server.process.wait(120)


def test_the_command_serves_on_a_cluster_that_runs_already_and_leaves_it(table_file: Path, tmp_path: Path) -> None:
    require_ray()
    ray, port = RayServer([], tmp_path), free_port()
    (tmp_path / "command").mkdir()
    with running_postgres() as postgres, ending(ray):
        ray.launch([program("ray"), "start", "--head", "--port", str(port), "--include-dashboard=false", "--block"])
        options = ["--ray-address", f"127.0.0.1:{port}", "--database-url", postgres.new_database()]
        options += ["--engine", "tabular", "--model", str(table_file)]
        server = RayServer(options, tmp_path / "command")
        server.environment |= {name: ray.environment[name] for name in ("RAY_AUTH_TOKEN", "RAY_TMPDIR")}
        wait_until(lambda: "runtime started" in ray.log.read_text(), "Ray to start", START_S)
        with ending(server):
            server.start()
            assert ask(server.url, 1, key(server)).status_code == 200
            refuse_another_address(server)
            assert ask(server.url, 1, key(server)).status_code == 200, "what runs is left alone"
            assert server.stop() == 0, server.log.read_text()[-4000:]
            late = ask(server.url, 1, key(server))
            assert (late.status_code, late.json()["error"]["code"]) == (503, "no_replica"), "the cluster is still there"
            assert ray.process.poll() is None


def refuse_another_address(server: RayServer) -> None:
    """A second command on the cluster of a first, which would not listen where it is told to."""
    line = command("serve", "--ray", "--port", str(free_port()), *server.options)
    environment = os.environ | server.environment
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 2, done.stderr[-4000:]
    assert f"give --host 127.0.0.1 --port {server.port}" in done.stderr


def test_a_model_that_cannot_be_loaded_is_said_in_one_line(tmp_path: Path) -> None:
    require_ray()
    server = RayServer(["--engine", "tabular", "--model", "/nowhere/table.json"], tmp_path)
    with ending(server):
        server.launch(command("serve", "--ray", "--port", str(server.port), *server.options))
        assert server.process.wait(START_S) == 2
    (line,) = [line for line in server.log.read_text().splitlines() if line.startswith("powercut: ")]
    assert "no replica could be started: ModelNotFound: cannot read the table /nowhere/table.json" in line


def test_a_second_signal_ends_what_runs(table_file: Path, tmp_path: Path) -> None:
    require_ray()
    server = RayServer(["--drain-s", "3600", "--engine", "tabular", "--model", str(table_file)], tmp_path)
    endless = {"max_tokens": 4000, "power": {"blocks": 1, "steps_per_block": 1000, "memo_tree": False}, "n": 8}

    def ask_in_vain() -> None:
        with suppress(httpx.TransportError):  # the server ends
            ask(server.url, 1, key(server), **endless)

    with ending(server):
        server.start()
        asking = threading.Thread(target=ask_in_vain)
        asking.start()
        wait_until(lambda: sum(told(server, "vllm:num_requests_running").values()) == 1, "the request to run")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.url}/readyz", timeout=60).status_code == 503, "the drain to begin")
        assert server.process.poll() is None, "it waits for the request"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 1
    asking.join(60)


@contextmanager
def ending(server: RayServer) -> Iterator[None]:
    """Leave nothing behind."""
    try:
        yield
    finally:
        server.clean()


def program(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).parent / name)


def answers(server: RayServer) -> bool:
    """Whether some replica takes requests; before, the proxy says so in our words, or nobody answers."""
    assert server.process.poll() is None, server.log.read_text()[-4000:]
    try:
        reply = httpx.get(f"{server.url}/readyz", timeout=10)
    except httpx.TransportError:
        return False
    assert isinstance(json.loads(reply.text), dict)
    return reply.status_code == 200
