"""A real Ray cluster on this machine: the command that starts one, and a look at its processes."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from service.keys import new_key
from service.replicas.command import STAY_HERE
from tests.service.serving import ROOT, command, free_port, wait_until

SHARED_MEMORY = 256 << 20
"""Bytes that Ray's object store and its processes need of /dev/shm."""
START_S = 280.0
"""Ray is a dozen processes of some seconds each; a busy machine needs minutes."""


def require_ray() -> None:
    """Skip where Ray cannot run; in CI that is a failure."""
    reason = None
    if find_spec("ray") is None:
        reason = "Ray is not installed (pip install 'powercut[ray]')"
    elif not Path("/proc/self/stat").exists():
        reason = "Ray's processes are looked at in /proc"
    elif shutil.disk_usage("/dev/shm").free < SHARED_MEMORY:
        reason = f"/dev/shm has less than {SHARED_MEMORY >> 20} MiB"
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def processes() -> dict[int, tuple[int, str]]:
    """Process id → its parent's, and its command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if state[0] != "Z":
            found[int(folder.name)] = (int(state[1]), line)
    return found


def descendants(root: int) -> dict[int, str]:
    """Process id → command line, of all that a process has started, directly or not."""
    known, found, new = processes(), dict[int, str](), [root]
    while new:
        parent = new.pop()
        children = {pid: line for pid, (its, line) in known.items() if its == parent and pid not in found}
        found |= children
        new += children
    return found


class RayServer:
    """`powercut serve --ray` in a process of its own, with keys; its whole tree can be looked at."""

    def __init__(self, options: Sequence[str], folder: Path) -> None:
        self.key, self.key_line = new_key("alice")
        self.port = free_port()
        self.url, self.log = f"http://127.0.0.1:{self.port}", folder / "log.txt"
        self.sessions = Path(tempfile.mkdtemp(prefix="pcray-"))  # short: the paths of sockets have a limit
        self.environment = (
            os.environ
            | STAY_HERE
            | {
                "OMP_NUM_THREADS": "1",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
                "RAY_TMPDIR": str(self.sessions),
                "POWERCUT_KEYS": self.key_line,
            }
        )
        self.options = options
        self._tree = dict[int, str]()

    def start(self) -> None:
        """Start, and wait until it serves."""
        self.launch(command("serve", "--ray", "--port", str(self.port), *self.options))
        wait_until(lambda: self.process.poll() is not None or self.address is not None, "Ray to start", START_S)
        assert self.process.poll() is None, self.log.read_text()[-4000:]

    def launch(self, line: Sequence[str], **environment: str) -> None:
        """Start a program as the one that is looked at."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                line, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=self.environment | environment
            )

    @property
    def address(self) -> str | None:
        """Where Ray is, once the command has said so."""
        said = re.search(r"^powercut: .* on Ray at (\S+), at ", self.log.read_text(), re.MULTILINE)
        return said[1] if said else None

    def replicas(self, application: str = "powercut") -> list[int]:
        """Process ids of an application's replicas."""
        title = f"ray::ServeReplica:{application}:"
        return [pid for pid, line in descendants(self.process.pid).items() if line.startswith(title)]

    def run(self, module: str, *arguments: str) -> None:
        """Run a program of the tests against the cluster."""
        assert self.address is not None
        line = [sys.executable, "-m", module, self.address, *arguments]
        with self.log.open("ab") as output:
            done = subprocess.run(
                line,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                timeout=START_S,
                check=False,
            )
        assert done.returncode == 0, self.log.read_text()[-4000:]

    def client(self, timeout: float = 120) -> httpx.Client:
        """A client with the key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, verify=False)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._tree = descendants(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def left(self) -> list[str]:
        """What was started and still runs."""
        now = processes()
        return [line for pid, line in self._tree.items() if pid in now and now[pid][1] == line]

    def clean(self) -> None:
        """Leave nothing behind, whatever has failed."""
        self._tree |= descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        now = processes()
        for pid, line in self._tree.items():
            if pid in now and now[pid][1] == line:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        shutil.rmtree(self.sessions, ignore_errors=True)


@contextmanager
def running(options: Sequence[str], folder: Path) -> Iterator[RayServer]:
    """From ready to a clean end by SIGTERM with nothing left behind."""
    server = RayServer(options, folder)
    try:
        server.start()
        yield server
        assert server.stop() == 0, server.log.read_text()[-4000:]
        wait_until(lambda: not server.left(), f"Ray to end: {server.left()}")
    finally:
        server.clean()
