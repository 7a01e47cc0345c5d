"""The published schema tells the truth: whatever fits it is answered as it says, and what does not is refused.

Schemathesis writes the requests, valid and invalid ones, for every route of the document, and runs all its checks.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service.analysis import ANALYSES as REGISTRY
from service.analysis.analyst import PREFIX
from service.app import create_app
from service.keys import new_key
from service.settings import Settings
from tests.service.faulty import FaultyEngine
from tests.service.tables import EOS, LETTERS

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed beside vLLM")
from schemathesis.config import SchemathesisConfig  # noqa: E402
from schemathesis.engine import Status, events, from_schema  # noqa: E402

CASES = 2_000
ANALYSES = f"^{PREFIX}.+"
KEY, KEY_LINE = new_key("schemathesis")
LIMITS_ACROSS_FIELDS = ["400", "413", "422"]
"""What a request that fits the schema may be answered beside the usual: two fields together ask for too much."""


def config(examples: int) -> Any:
    """All checks on valid and invalid data, the same data each time."""
    accepted = ["2xx", "401", "403", "404", "409", "429", "5xx", *LIMITS_ACROSS_FIELDS]
    return SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "request-timeout": 60,  # the first analysis of a kind starts a process
            "headers": {"Authorization": f"Bearer {KEY}"},
            "checks": {"positive_data_acceptance": {"expected-statuses": accepted}},
            "generation": {"deterministic": True, "max-examples": examples, "database": "none"},
        }
    )


def quick_engine() -> FaultyEngine:
    """Answers of a few letters, so that thousands of requests take seconds; a short context."""
    table = {"vocab": list(LETTERS), "eos": [EOS], "logits": {"": [0.0, 0.0, -1.0]}, "default": [-3.0, -3.0, 0.0]}
    return FaultyEngine(table, context=64)


def published(data_dir: Path, examples: int) -> Any:
    """The document of a server with keys, to be tried with so many examples a route and phase."""
    app = create_app(quick_engine(), Settings(max_answers=8, keys=SecretStr(KEY_LINE), data_dir=data_dir))
    headers = {"Authorization": f"Bearer {KEY}"}
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config(examples), headers=headers)


def failures(schema: Any) -> tuple[Counter[str], Counter[str], list[str]]:
    """How many requests each phase sent, how many each route answered, and what every failed check says."""
    sent, answered, found = Counter[str](), Counter[str](), list[str]()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            sent[event.phase.value] += len(event.recorder.interactions)
            for case_id, interaction in event.recorder.interactions.items():
                path = event.recorder.cases[case_id].value.path
                answered[path] += interaction.response is not None and interaction.response.status_code == 200
            for case_id, checks in event.recorder.checks.items():
                case = event.recorder.cases[case_id].value
                found += [
                    f"{case.method} {case.path} {check.name}: {check.failure_info.failure} {str(case.body)[:300]}"
                    for check in checks
                    if check.status is not Status.SUCCESS and check.failure_info is not None
                ]
        elif isinstance(event, events.NonFatalError | events.FatalError):
            found.append(str(event))
    return sent, answered, found


@pytest.mark.slow
def test_thousands_of_requests_find_no_difference_between_the_service_and_its_schema(tmp_path: Path) -> None:
    sent, answered, found = failures(published(tmp_path, examples=60).exclude(path_regex=ANALYSES))

    print(dict(sent), dict(answered))
    assert not found, f"{len(found)} failed checks:\n" + "\n".join(dict.fromkeys(found))
    assert sum(sent.values()) >= CASES
    assert all(answered[path] > 10 for path in ("/v1/completions", "/v1/chat/completions", "/tokenize"))


def fuzzed() -> list[Any]:
    """The analyses that answer requests; one that starts a process for each takes minutes."""
    asked = (one for one in REGISTRY.values() if not one.job_only)
    return [pytest.param(one.name, marks=pytest.mark.long if one.own_process else ()) for one in asked]


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzzed())
def test_analyses_answer_as_the_schema_says(name: str, tmp_path: Path) -> None:
    """Fewer requests: an analysis computes, in a process of its own."""
    sent, _, found = failures(published(tmp_path, examples=8).include(path=PREFIX + name))

    print(dict(sent))
    assert not found, f"{len(found)} failed checks:\n" + "\n".join(dict.fromkeys(found))
    assert sum(sent.values()) > 8


@pytest.mark.slow
def test_a_field_called_model_lists_its_own_values_if_it_has_some() -> None:
    schemas = create_app(quick_engine()).openapi()["components"]["schemas"]
    own = schemas["AssociativeMemoryRequest"]["properties"]["model"]["anyOf"][0]
    assert own["enum"] == ["shared", "decoupled"]
    assert "letters" in schemas["CompletionRequest"]["properties"]["model"]["enum"]


@pytest.mark.slow
def test_a_key_is_asked_for_only_where_keys_are_set() -> None:
    def guarded(settings: Settings) -> set[str]:
        paths = create_app(quick_engine(), settings).openapi()["paths"]
        return {path for path, routes in paths.items() if any("security" in route for route in routes.values())}

    assert guarded(Settings()) == set()
    assert guarded(Settings(keys=SecretStr(KEY_LINE))) >= {"/v1/completions", "/v1/models", "/tokenize"}
