"""How pip finds packages on this machine, carried into a container's build: nothing of it is written down anywhere."""

import ast
import subprocess
import sys
from pathlib import Path

NAMES = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "default-timeout", "constraint", "cert")
"""Settings that say where packages come from."""


def pip_settings() -> dict[str, str]:
    """Settings of the running pip; those of the environment win."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = {}
    for line in sorted(told.splitlines(), key=lambda line: line.startswith(":env:")):
        place, _, value = line.partition("=")
        name = place.rpartition(".")[2]
        if name in NAMES:
            found[name] = ast.literal_eval(value)
    return found


def pip_mounts(folder: Path) -> dict[Path, Path]:
    """Files and folders that a build needs, as source → place inside; what must be written is written into `folder`."""
    settings = pip_settings()
    words = [word.removeprefix("file://") for value in settings.values() for word in value.split()]
    mounts = {Path(word): Path(word) for word in words if word.startswith("/") and Path(word).exists()}
    for index in [path for path in mounts if path.name == "simple"]:  # its links lead beside it
        mounts[index.parent] = index.parent
        del mounts[index]
    lines = [f"{name} = {' '.join(value.split())}" for name, value in settings.items()]
    written = folder / "pip.conf"
    written.write_text("\n".join(["[global]", *lines, ""]))
    return {written: Path("/etc/pip.conf")} | mounts
