"""The source archive and the wheel hold everything, and the wheel runs where it is installed."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from service.version import VERSION
from tests.service.serving import ROOT
from tests.service.tables import letters_table

pytestmark = pytest.mark.slow
PACKAGES = ("sampler", "service", "evals")
LOOK = """
from pathlib import Path
import sampler, service, evals
from service.jobs.database import Database
print(sampler.__file__, service.__file__, evals.__file__)
with Database(None, Path()).read():
    pass
"""
"""Where the packages come from; then the job database is made, which takes the migrations."""
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; an error shows what it said."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, so that nothing is left in the work tree, and nothing old gets in."""
    folder = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def archive(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, unpacked."""
    folder = tmp_path_factory.mktemp("archive")
    name = run(sys.executable, "-c", BUILD, "build_sdist", folder, cwd=source).splitlines()[-1]
    with tarfile.open(folder / name) as packed:
        packed.extractall(folder, filter="data")
    return folder / f"powercut-{VERSION}"


@pytest.fixture(scope="module")
def wheel(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive."""
    folder = tmp_path_factory.mktemp("wheel")
    return folder / run(sys.executable, "-c", BUILD, "build_wheel", folder, cwd=archive).splitlines()[-1]


def files(folder: Path) -> set[str]:
    """Everything in the packages of a folder."""
    found = (path for name in PACKAGES for path in (folder / name).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found}


def test_both_hold_every_file_of_the_packages(source: Path, archive: Path, wheel: Path) -> None:
    wanted = files(source)
    assert {"service/py.typed", "service/jobs/migrations/script.py.mako"} <= wanted
    assert files(archive) == wanted
    with zipfile.ZipFile(wheel) as packed:
        held = set(packed.namelist())
    assert {name for name in held if ".dist-info/" not in name} == wanted
    assert any(name.endswith("/licenses/LICENSE") for name in held)


def test_the_wheel_runs_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, whose other packages are this one's."""
    place = tmp_path / "venv"
    venv.create(place)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", place / "bin" / "python"]
    run(*pip, "install", "--quiet", "--no-compile", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    (own / "others.pth").write_text(sysconfig.get_path("purelib"))
    bin_ = place / "bin"
    told = run(bin_ / "python", "-c", LOOK, cwd=tmp_path)
    assert all(Path(path).is_relative_to(own) for path in told.split())
    assert (tmp_path / "jobs.sqlite3").exists()
    assert run(bin_ / "powercut", "--version", cwd=tmp_path) == f"powercut {VERSION}\n"
    assert run(bin_ / "powercut-eval", "--version", cwd=tmp_path) == f"powercut-eval {VERSION}\n"
    assert "serve" in run(bin_ / "powercut", "--help", cwd=tmp_path)
    (tmp_path / "letters.json").write_text(json.dumps(letters_table()))
    options = ["--engine", "tabular", "--model", "letters.json", "--max-tokens", "4", "--seed", "3", "--json"]
    assert json.loads(run(bin_ / "powercut", "sample", "hi", *options, cwd=tmp_path))["power"]["seed"] == 3
