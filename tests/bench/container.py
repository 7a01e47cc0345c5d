"""`python -m tests.bench.container`: the image's size by layer, and its start against `powercut serve` as installed.

Start is the time from the command to the first 200 of `/readyz`. Both serve the default model, in turn, with files that
have been read before. Needs root, buildah, debootstrap and bubblewrap, and some minutes for the build.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from tests.bench.measure import in_turn
from tests.deploy.image import Image, built_image, sizes, why_not_here
from tests.deploy.running import container, volume
from tests.deploy.test_container import ready
from tests.service.serving import command_server, wait_until

START_S = 300.0


def container_start_s(image: Image, folder: Path) -> float:
    """Seconds until the image's server takes work."""
    start = time.perf_counter()
    open_door = {"POWERCUT_ALLOW_PUBLIC_WITHOUT_KEYS": "1", "OMP_NUM_THREADS": "1"}
    with container(image, volume(folder / "data", image), folder / "log.txt", environment=open_door) as running:
        wait_until(lambda: ready(running), "the container to serve", START_S)
        return time.perf_counter() - start


def installed_start_s(folder: Path) -> float:
    """Seconds until this environment's server takes work."""
    start = time.perf_counter()
    with command_server([], folder / "log.txt", START_S):
        return time.perf_counter() - start


def main() -> None:
    """Build, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.container", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if reason := why_not_here():
        parser.error(reason)
    folder = Path(tempfile.mkdtemp(prefix="powercut-image-"))
    number = iter(range(10_000))

    def place() -> Path:
        made = folder / f"start-{next(number)}"
        made.mkdir()
        return made

    try:
        start = time.perf_counter()
        with built_image() as image:
            print(f"built in {time.perf_counter() - start:.0f} s")
            found = sizes(image)
            for name, size in (found | {"all": sum(found.values())}).items():
                print(f"| `{name}` | {size / 1e6:.0f} MB |")
            container_start_s(image, place())
            installed_start_s(place())
            ratio = in_turn(
                "start to ready, container ÷ installed",
                lambda _: container_start_s(image, place()),
                lambda _: installed_start_s(place()),
                options.rounds,
                "≤ 1.2",
            )
            print(ratio.row())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
