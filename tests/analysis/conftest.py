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


@contextmanager
def probe_service(**settings: Any) -> Iterator[str]:
    """A service whose analyses are the probes."""
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
    with serving_app(create_app(from_table(letters_table(), "letters"))) as url:
        yield url


@pytest.fixture(scope="session")
def http(analysis_url: str) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=analysis_url, timeout=60) as client:
        yield client
