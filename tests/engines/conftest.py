import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from sampler.engine import EngineOptions, load_engine
from sampler.engines.transformers.engine import TransformersEngine
from tests.engines.fake_vllm import FakeVLLM, running
from tests.engines.models import tiny_engine


@pytest.fixture
def tiny() -> Iterator[TransformersEngine]:
    engine = tiny_engine()
    yield engine
    engine.worker.close()


def load_default(dtype: str) -> TransformersEngine:
    engine = load_engine("transformers", EngineOptions(dtype=dtype))
    assert isinstance(engine, TransformersEngine)
    return engine


@pytest.fixture(scope="session")
def smollm2() -> Iterator[TransformersEngine]:
    engine = load_default("fp32")
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture(scope="session")
def smollm2_float64() -> Iterator[TransformersEngine]:
    engine = load_default("fp64")
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeVLLM]]:
    with ExitStack() as stack:
        yield lambda table, **changes: stack.enter_context(running(FakeVLLM(table, **changes)))
