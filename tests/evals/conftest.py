"""Where the benchmark files lie, graders that work and a real server; what a machine lacks is skipped with a reason."""

import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from evals.grading import Grading
from evals.sandbox import Limits
from tests.service.serving import serving_command
from tests.service.tables import letters_table

DATA_VARIABLE = "POWERCUT_TEST_DATA"
SIBLING = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The benchmarks' files: a clone of the repository alone does not have them."""
    folder = Path(os.environ.get(DATA_VARIABLE, SIBLING))
    if not (folder / "math500.jsonl").is_file():
        pytest.skip(f"no benchmark files in {folder}; {DATA_VARIABLE} names another folder")
    return folder


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    """Tests of the sandbox need its program; in CI that is there (.ci/apt-packages)."""
    if shutil.which("bwrap") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must test the sandbox, and bubblewrap is not installed")
        pytest.skip("bubblewrap is not installed")


@pytest.fixture
async def grading() -> AsyncIterator[Grading]:
    async with Grading() as owned:
        yield owned


@pytest.fixture
async def short(bubblewrap: None) -> AsyncIterator[Grading]:
    """For programs that go on until they are stopped."""
    async with Grading(limits=Limits(wall_s=4.0, cpu_s=1)) as owned:
        yield owned


@pytest.fixture(scope="session")
def powercut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a `powercut serve` on a table of letters."""
    folder = tmp_path_factory.mktemp("letters")
    (folder / "letters.json").write_text(json.dumps(letters_table(horizon=8)))
    options = ["--engine", "tabular", "--model", str(folder / "letters.json")]
    with serving_command(options, folder / "log.txt") as url:
        yield url
    assert "Traceback" not in (folder / "log.txt").read_text()
