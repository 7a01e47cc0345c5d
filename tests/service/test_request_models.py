"""A wrong body costs no more than a right one: lists end at their first error, so that none writes a million."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from service.analysis import ANALYSES
from service.api.batches import BatchRequest
from service.api.requests import PROMPTS_LIMIT, ChatRequest, CompletionRequest
from service.api.tokenize import DetokenizeRequest, TokenizeRequest
from service.settings import Settings

BODIES: list[type[BaseModel]] = [CompletionRequest, ChatRequest, TokenizeRequest, DetokenizeRequest, BatchRequest]
REQUESTS = [*BODIES, *(analysis.request for analysis in ANALYSES.values())]
SEQUENCES = ("list", "set", "frozenset", "tuple")


def patient_lists(schema: Any, where: str = "") -> Iterator[str]:
    """Places of a pydantic schema with lists whose wrong items are all reported."""
    if isinstance(schema, dict):
        can_fail = schema.get("items_schema", {}) != {"type": "any"}
        if schema.get("type") in SEQUENCES and can_fail and not schema.get("fail_fast"):
            yield where
        for key, inner in schema.items():
            yield from patient_lists(inner, f"{where}.{key}")
    elif isinstance(schema, list | tuple):
        for inner in schema:
            yield from patient_lists(inner, where)


@pytest.mark.parametrize("request_model", REQUESTS, ids=lambda model: model.__name__)
def test_every_list_of_a_request_ends_at_its_first_error(request_model: type[BaseModel]) -> None:
    assert list(patient_lists(request_model.__pydantic_core_schema__)) == []


def test_the_walk_finds_a_list_that_does_not() -> None:
    class Inner(BaseModel):
        numbers: list[int]

    class Outer(BaseModel):
        inner: Inner | None = None

    assert len(list(patient_lists(Outer.__pydantic_core_schema__))) == 1


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ChatRequest, {"model": "m", "messages": [{"role": "user", "content": [1] * 256}] * 64}),
        (ChatRequest, {"model": "m", "messages": [{"role": "nobody"}] * 1024}),
        (TokenizeRequest, {"messages": [{"role": "user", "content": [{}] * 1024}] * 16}),
        (BatchRequest, {"metadata": {str(i): i for i in range(10_000)}}),
        (BatchRequest, {"metadata": {"k" * 65 + str(i): "" for i in range(10_000)}}),
    ],
    ids=["parts", "messages", "tokenize", "metadata values", "metadata keys"],
)
def test_a_body_of_wrong_things_gets_few_errors(model: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    assert refused.value.error_count() < 10


@pytest.mark.slow
@pytest.mark.parametrize("one", ["a", [1]], ids=["texts", "ids"])
def test_more_prompts_than_any_server_takes_are_refused_as_such(one: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        CompletionRequest.model_validate({"model": "m", "prompt": [one] * (PROMPTS_LIMIT + 1)})
    assert "too_long" in {error["type"] for error in refused.value.errors()}


def test_no_server_can_be_set_to_take_more_prompts_than_the_schema() -> None:
    limits = Settings.model_json_schema()["properties"]["max_prompts"]
    assert limits["maximum"] == PROMPTS_LIMIT
