"""Replicas on a real Ray cluster: what clients see is what one server shows, and a replica's death loses nothing."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sampler.engine import EngineOptions, load_engine
from tests.jobs.postgres import running_postgres
from tests.jobs.servers import ENDED, answers, completion_row, jsonl
from tests.ray.cluster import RayServer, descendants, require_ray, running
from tests.ray.models import byte_checkpoint
from tests.ray.sleepers import AT_ONCE, DELAY_S
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving, wait_until
from tests.service.tables import endless_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MODEL = "letters"
ROWS = 48
CHAIN = {"blocks": 4, "steps_per_block": 4}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama that takes text."""
    return byte_checkpoint(tmp_path_factory.mktemp("tiny-bytes"))


@pytest.fixture(scope="module")
def cluster(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServer]:
    """Two replicas of the model in float64, with PostgreSQL; beside them one and two replicas that sleep."""
    require_ray()
    folder = tmp_path_factory.mktemp("ray")
    with running_postgres() as postgres:
        jobs = {"lease-s": 1, "batch-poll-s": 0.1, "batch-rows": 8, "database-url": postgres.new_database()}
        options = [word for name, value in jobs.items() for word in (f"--{name}", str(value))]
        options += ["--replicas", "2", "--model", str(checkpoint), "--dtype", "fp64", "--served-model-name", MODEL]
        with running(options, folder) as server:
            server.run("tests.ray.sleepers", str(folder / "data"))
            yield server


@contextmanager
def plain_server(checkpoint: Path) -> Iterator[str]:
    """One server on the same model."""
    with serving(load_engine("transformers", EngineOptions(str(checkpoint), MODEL, "fp64"))) as url:
        yield url


def told(server: RayServer, name: str, path: str = "", **labels: str) -> dict[str, float]:
    """A metric by replica."""
    with server.client() as client:
        text = client.get(f"{path}/metrics").text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
    found = dict[str, float]()
    for sample in samples:
        if labels.items() <= sample.labels.items():
            replica = sample.labels.get("replica", "")
            found[replica] = found.get(replica, 0.0) + sample.value
    return found


def ask(url: str, number: int, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    """One completion on a connection of its own, seeded by its number."""
    asked = {"model": "letters", "prompt": f"p{number}", "max_tokens": 24, "seed": number, "power": CHAIN, **body}
    return httpx.post(f"{url}/v1/completions", json=asked, headers=headers, timeout=120, verify=False)


def key(server: RayServer) -> dict[str, str]:
    """The header that lets in."""
    return {"Authorization": f"Bearer {server.key}"}


def choices(reply: httpx.Response) -> Any:
    """What must not differ between servers."""
    assert reply.status_code == 200, reply.text
    return told_of(reply.json()["choices"])


def told_of(found: list[dict[str, Any]]) -> Any:
    """Tokens and counts; sums of log p depend in their last digit on who else was in the batch."""
    counts = ("token_ids", "steps", "stage", "ended_by", "seed")
    return [(each["text"], each["finish_reason"], [each["power"][name] for name in counts]) for each in found]


def both_replicas_and_a_plain_server_give_the_same_by_seed(cluster: RayServer, checkpoint: Path) -> None:
    numbers = range(12)
    with plain_server(checkpoint) as plain, ThreadPoolExecutor(8) as pool:
        expected = [choices(each) for each in pool.map(lambda number: ask(plain, number), numbers)]
    with ThreadPoolExecutor(8) as pool:
        found = [choices(each) for each in pool.map(lambda number: ask(cluster.url, number, key(cluster)), numbers)]
    assert found == expected
    counted = told(cluster, "powercut:answers_total")
    assert len([replica for replica, count in counted.items() if count > 0]) == 2, "both took part"
    assert sum(counted.values()) >= len(numbers), "one page tells of both, whoever is asked"


def a_key_is_needed_and_shown_nowhere(cluster: RayServer) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        reply = ask(cluster.url, 1, headers)
        assert reply.status_code == 401
        assert reply.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{cluster.url}/metrics").status_code == 401
    assert httpx.get(f"{cluster.url}/readyz").status_code == 200
    secret = cluster.key_line.partition(":")[2]
    logs = [path for path in cluster.sessions.rglob("*") if path.is_file() and path.suffix in {".log", ".err", ".out"}]
    assert len(logs) > 5
    for path in (cluster.log, *logs):
        written = path.read_text(errors="replace")
        assert secret not in written, path
        assert cluster.key not in written, path


def errors_and_limits_are_those_of_a_plain_server(cluster: RayServer) -> None:
    with cluster.client() as client:
        client.headers["X-Request-Id"] = "mine"
        lost = client.get("/nowhere")
        assert (lost.status_code, lost.json()["error"]["message"]) == (404, "Not Found")
        assert lost.headers.get_list("x-request-id") == ["mine"]
        wrong = client.post("/v1/completions", json={"model": "letters", "prompt": "hi", "max_tokens": 0})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "max_tokens")
        large = client.post("/v1/completions", content=b" " * (5 << 20))
        assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")


def a_stream_comes_as_it_is_made_and_a_client_that_leaves_frees_its_place(cluster: RayServer) -> None:
    power = {"blocks": 4, "steps_per_block": 20, "stream_events": True}
    body = {"model": "letters", "prompt": "hi", "max_tokens": 64, "seed": 1, "stream": True, "power": power}

    def running_now() -> float:
        return sum(told(cluster, "vllm:num_requests_running", "/two").values())

    with (
        cluster.client() as client,
        client.stream("POST", "/two/v1/completions", json=body) as reply,
    ):
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in reply.iter_lines() if line.startswith("data: "))
        first = json.loads(next(lines).removeprefix("data: "))
        assert "error" not in first
        assert running_now() == 1, "the first event came while the chain ran"
    wait_until(lambda: running_now() == 0, "the place of a stream to be freed")
    with cluster.client(timeout=5.0) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/two/v1/completions", json={**body, "stream": False, "power": {"steps_per_block": 60}})
    wait_until(lambda: running_now() == 0, "the place of a request to be freed")
    assert sum(told(cluster, "powercut:http_requests_total", "/two", status="499").values()) == 1


def throughput(url: str, requests: int = 32, in_flight: int = 4 * AT_ONCE) -> float:
    """Answers a second, of requests that each sleep once."""
    plain = {"power": None, "max_tokens": 2}
    began = time.monotonic()
    with ThreadPoolExecutor(in_flight) as pool:
        for reply in pool.map(lambda number: ask(url, number, **plain), range(requests)):
            assert reply.status_code == 200, reply.text
    return requests / (time.monotonic() - began)


def two_replicas_answer_nearly_twice_as_much_as_one(cluster: RayServer) -> None:
    throughput(f"{cluster.url}/two", 8)  # the first request of each replica pays what is imported late
    throughput(f"{cluster.url}/one", 8)
    ratios = list[float]()
    for _ in range(6):  # a machine that is busy with something else may hold up some of them
        one, two = (throughput(f"{cluster.url}/{name}") for name in ("one", "two"))
        ratios.append(two / one)
        print(f"\none replica {one:.2f}/s of at most {AT_ONCE / DELAY_S:.0f}, two {two:.2f}/s: {ratios[-1]:.2f} times")
        if ratios[-1] >= 1.7:
            break
    assert max(ratios) >= 1.7


def requests_on_a_replica_that_dies_say_so_and_can_be_sent_again(cluster: RayServer) -> None:
    body = {"power": {"blocks": 1, "steps_per_block": 24, "early_rejection": False, "memo_tree": False}}
    url, numbers, victim = f"{cluster.url}/two", range(2 * AT_ONCE), cluster.replicas("two")[0]
    with ThreadPoolExecutor(len(numbers)) as pool:
        asked = [pool.submit(ask, url, number, **body) for number in numbers]
        wait_until(
            lambda: all(count > 0 for count in told(cluster, "vllm:num_requests_running", "/two").values()),
            "both replicas to be busy",
        )
        os.kill(victim, signal.SIGKILL)
        replies = [each.result() for each in asked]
    lost = [number for number, reply in zip(numbers, replies, strict=True) if reply.status_code != 200]
    assert 0 < len(lost) < len(numbers), "those of the other replica were answered"
    for number in lost:
        assert replies[number].status_code == 503
        assert replies[number].json()["error"]["code"] == "replica_lost"
        assert "retry-after" in replies[number].headers
    with serving(FaultyEngine(endless_table())) as plain:
        for number in lost:
            assert choices(ask(url, number, **body)) == choices(ask(plain, number, **body))


def a_replica_killed_in_the_middle_of_a_batch_loses_nothing(cluster: RayServer) -> None:
    long = {"power": {"blocks": 4, "steps_per_block": 24}}  # the others would end before the replica is killed
    rows = [completion_row(number, **(long if number >= ROWS // 4 else {})) for number in range(ROWS)]
    with cluster.client() as client:
        form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", jsonl(rows))}}
        file = client.post("/v1/files", **form).json()["id"]
        body = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"}
        batch = client.post("/v1/batches", json=body).json()["id"]

        def look() -> dict[str, Any]:
            reply = client.get(f"/v1/batches/{batch}")
            # A request that the dying replica had is told to come again.
            return (
                reply.json() if reply.status_code != 503 else {"status": "unknown", "request_counts": {"completed": 0}}
            )

        wait_until(lambda: look()["request_counts"]["completed"] >= ROWS // 4, "the batch to be under way", 120)
        before = cluster.replicas()
        os.kill(before[0], signal.SIGKILL)
        assert look()["status"] not in ENDED, "the batch was not over"
        new = choices(ask(cluster.url, 7, key(cluster)))
        wait_until(lambda: look()["status"] in ENDED, "the batch to end", 120)
        done = look()
        counts = done["request_counts"]
        assert (done["status"], counts["completed"], counts["failed"]) == ("completed", ROWS, 0)
        assert counts["resumed"] > 0, "the other replica took over what the first was at"
        lines = client.get(f"/v1/files/{done['output_file_id']}/content").text.splitlines()
    found = answers([json.loads(line) for line in lines])
    assert len(found) == ROWS
    assert told_of(found["row-7"][0]) == new, "a row is what the request itself would be"
    wait_until(lambda: len(cluster.replicas()) == 2, "Serve to make a new replica", 120)


def listening(pids: list[int]) -> dict[int, set[tuple[str, int]]]:
    """Process id → the addresses and ports that it listens on, by /proc."""
    sockets = dict[str, tuple[str, int]]()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, port = fields[1].split(":")
                sockets[fields[9]] = (address, int(port, 16))
    found = dict[int, set[tuple[str, int]]]()
    for pid in pids:
        names = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
        inodes = [name.removeprefix("socket:[").removesuffix("]") for name in names if name.startswith("socket:[")]
        found[pid] = {sockets[inode] for inode in inodes if inode in sockets}
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def nothing_listens_for_other_machines_without_a_token(cluster: RayServer) -> None:
    import grpc

    tree = descendants(cluster.process.pid)
    open_ports = {
        (pid, port)
        for pid, places in listening(list(tree)).items()
        for address, port in places
        if address not in LOOPBACK
    }
    replicas = [pid for pid, line in tree.items() if line.startswith("ray::ServeReplica:")]
    assert {pid for pid, _ in open_ports} <= set(replicas), "Ray's other ports stay on the loopback address"
    for _, port in open_ports:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=20)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


CHECKS = (
    a_key_is_needed_and_shown_nowhere,
    errors_and_limits_are_those_of_a_plain_server,
    a_stream_comes_as_it_is_made_and_a_client_that_leaves_frees_its_place,
    two_replicas_answer_nearly_twice_as_much_as_one,
    requests_on_a_replica_that_dies_say_so_and_can_be_sent_again,
    a_replica_killed_in_the_middle_of_a_batch_loses_nothing,
    nothing_listens_for_other_machines_without_a_token,
)


def test_replicas_on_a_real_cluster(cluster: RayServer, checkpoint: Path, subtests: pytest.Subtests) -> None:
    """One test, because a cluster takes longer to start than all of it, and tests are spread over processes."""
    with subtests.test("seeds"):
        both_replicas_and_a_plain_server_give_the_same_by_seed(cluster, checkpoint)
    for check in CHECKS:
        with subtests.test(check.__name__):
            check(cluster)
