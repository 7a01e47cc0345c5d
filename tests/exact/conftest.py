"""Runs every test that runs real chains twice: plain, and with a memo tree and prefetch on."""

from typing import Any

import pytest

from sampler.chain import Chain
from sampler.engines.tabular import TabularEngine
from sampler.tree import MemoTree

WITH_TREE = {"test_early_rejection", "test_chain_steps", "test_retries", "test_resume", "test_staged_law"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.path.stem in WITH_TREE:
        metafunc.fixturenames.append("savings")
        metafunc.parametrize(
            "savings", ["plain", pytest.param("tree", marks=pytest.mark.slow), "tree and prefetch"], indirect=True
        )


@pytest.fixture
def savings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains made by the test get a tree of their own, and engines rows to draw ahead in."""
    if request.param == "plain":
        return
    made = Chain.__init__

    def with_tree(self: Chain, engine: Any, task: Any, emit: Any = None) -> None:
        made(self, engine, task, emit)
        object.__setattr__(self.task, "tree", MemoTree())

    monkeypatch.setattr(Chain, "__init__", with_tree)
    if request.param == "tree and prefetch":
        monkeypatch.setattr(TabularEngine, "room", lambda self: 8)
