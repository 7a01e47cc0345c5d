"""For all tests: batch jobs live in a folder of the test session, never in the home of whoever runs the tests."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

if find_spec("hypothesis"):  # not in vLLM's environment, whose tests need none
    from hypothesis import settings

    settings.register_profile("unhurried", parent=settings(), deadline=None)  # no test asserts a time
    settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("POWERCUT_DATA_DIR")
    os.environ["POWERCUT_DATA_DIR"] = str(tmp_path_factory.mktemp("data"))
    yield
    if before is None:
        del os.environ["POWERCUT_DATA_DIR"]
    else:
        os.environ["POWERCUT_DATA_DIR"] = before
