"""A service of this process with the real analyses and the probes, behind a socket."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest

from sampler.engines.tabular import from_table
from service.analysis.analyst import Analyst
from service.api.analysis import make_router
from service.app import create_app
from service.settings import Settings
from tests.analysis.probes import PROBES
from tests.service.serving import serving_app
from tests.service.tables import letters_table

PATIENCE_S = 250.0
"""Starting a process takes half a minute where the machine is busy."""


@contextmanager
def probe_service(**settings: Any) -> Iterator[str]:
    """A service whose analyses are the probes."""
    settings.setdefault("analysis_time_limit_s", PATIENCE_S)
    limits = Settings(**settings)
    app = create_app(from_table(letters_table(), "letters"), limits)
    app.state.analyst = Analyst(limits, "tests.analysis.probes:PROBES")
    app.include_router(make_router(PROBES))
    with serving_app(app) as url:
        yield url


@pytest.fixture(scope="session")
def start_probes() -> Callable[..., AbstractContextManager[str]]:
    """Starts a service whose analyses are the probes, with the settings given."""
    return probe_service


@pytest.fixture(scope="session")
def analysis_url() -> Iterator[str]:
    """A service with the real analyses."""
    limits = Settings(analysis_time_limit_s=PATIENCE_S)
    with serving_app(create_app(from_table(letters_table(), "letters"), limits)) as url:
        yield url


@pytest.fixture(scope="session")
def http(analysis_url: str) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=analysis_url, timeout=PATIENCE_S) as client:
        yield client
