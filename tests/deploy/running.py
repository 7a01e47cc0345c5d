"""An image's processes, started as a container runtime starts them: its user, its environment, a read-only root.

bubblewrap stands for the runtime: namespaces of its own for processes, mounts and the network, in which there is a
loopback interface and nothing else; no capabilities, no new privileges; one writable volume at /data and a /tmp in
memory. The command is process 1, as in a container.
"""

import ctypes
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.deploy.image import Image

T = TypeVar("T")
CLONE_NEWNET = 0x40000000


@dataclass
class Container:
    """A running command of an image.

    Attributes:
        image: What it runs.
        process: The runtime's own process, whose exit code is the command's.
        pid: Of the command, as this machine counts.
        threads: In the container's network.
    """

    image: Image
    process: subprocess.Popen[bytes]
    pid: int
    threads: ThreadPoolExecutor

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Begin something in the container's network, where only its own loopback interface is."""
        return self.threads.submit(work)

    def inside(self, work: Callable[[], T]) -> T:
        """Do something there."""
        return self.submit(work).result()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a second command beside it, as `docker exec` does."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--", "env", "-i"]
        command = [*enter, *self.image.config["Env"], *as_user(self.image), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def enter_network(pid: int) -> None:
    """Move this thread, and no other, into the network of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open() as network:
        if libc.setns(network.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter the container's network")


def as_user(image: Image) -> list[str]:
    """Give up everything but being the image's user, as `cap_drop: [ALL]` and `no-new-privileges` do."""
    user, _, group = str(image.config["User"]).partition(":")
    gone = ["--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    return ["setpriv", f"--reuid={user}", f"--regid={group}", *gone, "--"]


OPEN_PROC = ("sh", "-c", 'mount -t proc proc /proc && exec "$@"', "sh")
"""A /proc with nothing hidden, as `systempaths=unconfined` gives; bubblewrap, like container runtimes, hides parts."""


def container_command(
    image: Image,
    data: Path,
    words: Sequence[str] | None,
    environment: dict[str, str],
    more: Sequence[str] = (),
    before: Sequence[str] = (),
) -> list[str]:
    """The command line of `docker run --read-only --network none` with these words instead of the image's.

    `more` are options of the runtime, `before` is run with the rights of root in the container's namespaces.
    """
    told = dict(item.split("=", 1) for item in image.config["Env"]) | environment
    settings = [word for name, value in told.items() for word in ("--setenv", name, value)]
    return [
        *("bwrap", "--die-with-parent", "--as-pid-1", "--unshare-pid", "--unshare-net", "--unshare-ipc"),
        *("--ro-bind", str(image.files), "/", "--bind", str(data), "/data", "--perms", "1777", "--tmpfs", "/tmp"),
        *("--proc", "/proc", "--dev", "/dev", "--clearenv", *settings, "--chdir", image.config["WorkingDir"]),
        *more,
        *before,
        *as_user(image),
        *(image.config["Entrypoint"] if words is None else ()),
        *(image.config["Cmd"] if words is None else words),
    ]


def volume(folder: Path, image: Image) -> Path:
    """A writable volume as a runtime makes it: with the owner that the image's folder has."""
    folder.mkdir()
    owner = (image.files / "data").stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    return folder


@contextmanager
def container(
    image: Image,
    data: Path,
    log: Path,
    words: Sequence[str] | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[Container]:
    """The image's own command, or these words, killed at the end if it still runs."""
    read, write = os.pipe()
    command = container_command(image, data, words, environment or {}, ("--info-fd", str(write)))
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, pass_fds=[write])
    try:
        os.close(write)
        with os.fdopen(read) as told:
            pid = json.loads(told.read())["child-pid"]
        with ThreadPoolExecutor(8, initializer=enter_network, initargs=(pid,)) as threads:
            yield Container(image, process, pid, threads)
    finally:
        process.kill()
        process.wait()


def run_once(
    image: Image, data: Path, *words: str, more: Sequence[str] = (), before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """One command of the image, to its end."""
    command = container_command(image, data, words, {}, more, before)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, close_fds=False)
