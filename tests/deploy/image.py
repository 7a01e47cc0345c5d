"""The image built for real without a Docker engine: a base by debootstrap, the Dockerfile by buildah.

The base, which changes with Debian's release only, is kept in the user's cache folder, in buildah's own storage. The
image is removed after use, and so is what a killed test left.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from tests.deploy.pip_settings import pip_mounts

ROOT = Path(__file__).parents[2]
RELEASE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
BASE = "localhost/powercut-test-base"
IMAGE = "localhost/powercut-test"
BUILD_S = 1200


def why_not_here() -> str | None:
    """What keeps this machine from building and running an image, if anything does."""
    if os.geteuid() != 0:
        return "a Debian base is made by root only"
    missing = [name for name in ("buildah", "debootstrap", "bwrap", "setpriv") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (make deps)"
    return None if debian_mirror() else "no Debian mirror in this machine's apt sources"


def debian_mirror() -> str | None:
    """The mirror that this machine's own apt uses."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    sites = [line.split() for line in told.splitlines()]
    return next((site for site, *names in sites if names == [RELEASE] and site.rstrip("/").endswith("/debian")), None)


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: where its files are, and what it says of itself in Docker's form."""

    files: Path
    config: dict[str, Any]


class Buildah:
    """buildah with storage of its own, copies for layers and no isolation but chroot: it runs wherever root does."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "images"
        storage = ["--root", str(self.images), "--runroot", str(folder / "run")]
        self._words = ["buildah", "--storage-driver", "vfs", *storage]

    def __call__(self, *arguments: str | Path) -> str:
        """Run one command; what it printed. What it complained of is in the error."""
        words = [*self._words, *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=BUILD_S)
        said = [line for line in (done.stdout + done.stderr).splitlines() if "WARNING: Location" not in line]
        assert done.returncode == 0, f"buildah {arguments[0]}:\n" + "\n".join(said)[-6000:]
        return done.stdout.strip()

    def number(self, image: str) -> str:
        """An image's number, or nothing if none is stored under this name."""
        return self("images", "--quiet", "--no-trunc", "--filter", f"reference={image}").removeprefix("sha256:")

    def files(self, image: str) -> Path:
        """An image's files, where they are stored: a layer is a whole copy here, and mounting would make another."""
        number = self.number(image)
        stored = json.loads((self.images / "vfs-images" / "images.json").read_text())
        [layer] = [entry["layer"] for entry in stored if entry["id"] == number]
        return self.images / "vfs" / "dir" / layer

    def clean(self) -> None:
        """Remove everything but the base."""
        self("rm", "--all")
        if self.number(IMAGE):
            self("rmi", IMAGE)
        self("rmi", "--prune")  # what has no name, of a build that was killed


def add_base(buildah: Buildah, folder: Path) -> None:
    """Store Debian with Python as the base image."""
    mirror = debian_mirror()
    assert mirror
    files = folder / "base"
    shutil.rmtree(files, ignore_errors=True)
    words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASE, str(files), mirror]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=BUILD_S)
    assert done.returncode == 0, done.stdout[-2000:]
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, files, "/")
    buildah("commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(files)


@contextmanager
def built_image(target: str = "cpu") -> Iterator[Image]:
    """A stage of the Dockerfile, built; only the base is left at the end. One process at a time builds."""
    folder = platformdirs.user_cache_path("powercut-tests")
    folder.mkdir(parents=True, exist_ok=True)
    buildah = Buildah(folder)
    with FileLock(folder / "lock"):
        buildah.clean()
        if not buildah.number(BASE):
            add_base(buildah, folder)
        try:
            build(buildah, folder, target)
            config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
            yield Image(buildah.files(IMAGE), config)
        finally:
            buildah.clean()


def build(buildah: Buildah, folder: Path, target: str) -> None:
    """Build one stage, with what pip on this machine needs mounted read-only."""
    mounts = [f"--volume={source}:{inside}:ro" for source, inside in pip_mounts(folder).items()]
    options = ["--isolation", "chroot", "--layers=false", "--format", "docker", "--pull-never", "--target", target]
    buildah("bud", *options, *mounts, "--build-arg", f"BASE_IMAGE={BASE}", "--tag", IMAGE, ROOT)


def sizes(image: Image) -> dict[str, int]:
    """Bytes of what each COPY of the Dockerfile's stage `cpu` brings, and of the base below."""
    stage = re.split(r"\nFROM .* AS cpu\n", (ROOT / "Dockerfile").read_text())[1].split("\nFROM ")[0]
    brought = re.findall(r"^COPY --from=\S+ \S+ (\S+)$", stage, re.MULTILINE)
    found = {place: disk_bytes(image.files / place.lstrip("/")) for place in brought}
    return {"base": disk_bytes(image.files) - sum(found.values())} | found


def disk_bytes(folder: Path) -> int:
    """Bytes that a folder takes, each file counted once."""
    told = subprocess.run(["du", "-s", "-x", "--block-size=1", folder], capture_output=True, text=True, check=True)
    return int(told.stdout.split()[0])
