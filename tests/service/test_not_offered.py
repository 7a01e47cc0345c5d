"""What OpenAI has and this service does not: the value that asks for nothing is taken, any other refused by name."""

import inspect
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.resources import Completions
from openai.resources.chat import Completions as ChatCompletions
from pydantic import BaseModel

from service.api.power import PowerOptions
from service.api.requests import ChatMessage, ChatRequest, CompletionRequest
from tests.service.checks import assert_error, assert_still_answers
from tests.service.conftest import MODEL

TEXT = "/v1/completions", {"model": MODEL, "prompt": "a", "max_tokens": 2}
CHAT = "/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": "a"}], "max_tokens": 2}

BOTH: dict[str, tuple[list[Any], list[Any]]] = {
    "frequency_penalty": ([0, 0.0, -0.0], [0.1, -2, "0", False, [0]]),
    "presence_penalty": ([0, 0.0], [1, True]),
    "logit_bias": ([{}], [{"0": 1}, [], 0]),
    "stream_options": ([], [{"include_usage": True}]),
    "user": (["", "u" * 256], ["u" * 257, 5, {}]),
}
"""Field → values taken beside null, values refused."""
TEXT_ONLY: dict[str, tuple[list[Any], list[Any]]] = {
    "best_of": ([1], [2, 2**31, 0, "1", True]),
    "suffix": ([""], ["b", 0]),
}
CHAT_ONLY: dict[str, tuple[list[Any], list[Any]]] = {
    "audio": ([], [{"voice": "a", "format": "mp3"}]),
    "function_call": (["none"], ["auto", {"name": "f"}]),
    "functions": ([[]], [[{"name": "f"}]]),
    "metadata": ([{}], [{"a": "b"}]),
    "modalities": ([["text"]], [["text", "audio"], [], "text"]),
    "parallel_tool_calls": ([True, False], [1, "true"]),
    "prediction": ([], [{"type": "content", "content": "a"}]),
    "moderation": ([], [{}]),
    "prompt_cache_key": ([], ["k"]),
    "prompt_cache_options": ([], [{}]),
    "prompt_cache_retention": ([], ["24h"]),
    "reasoning_effort": (["none"], ["high"]),
    "response_format": ([{"type": "text"}], [{"type": "json_object"}, {"type": "json_schema", "json_schema": {}}]),
    "safety_identifier": ([], ["x"]),
    "service_tier": (["auto", "default"], ["flex"]),
    "store": ([False], [True, 0]),
    "tool_choice": (["none", "auto"], ["required", {"type": "function", "function": {"name": "f"}}]),
    "tools": ([[]], [[{"type": "function", "function": {"name": "f"}}]]),
    "verbosity": (["medium"], ["low"]),
    "web_search_options": ([], [{}]),
}
CASES = [
    *((*TEXT, name, *values) for name, values in (BOTH | TEXT_ONLY).items()),
    *((*CHAT, name, *values) for name, values in (BOTH | CHAT_ONLY).items()),
]


@pytest.mark.parametrize(("route", "good", "name", "taken", "refused"), CASES, ids=lambda value: str(value)[:24])
def test_the_value_that_asks_for_nothing_is_taken_and_any_other_refused(
    http: httpx.Client, route: str, good: dict[str, Any], name: str, taken: list[Any], refused: list[Any]
) -> None:
    for value in [None, *taken]:
        reply = http.post(route, json=good | {name: value})
        assert reply.status_code == 200, f"{value}: {reply.text[:300]}"
    for value in refused:
        error = assert_error(http.post(route, json=good | {name: value}), 422)
        assert (error["param"] or "").startswith(name)
    assert_still_answers(http)


@pytest.mark.parametrize(("route", "good"), [TEXT, CHAT], ids=["text", "chat"])
def test_null_is_the_default_where_openai_has_it(http: httpx.Client, route: str, good: dict[str, Any]) -> None:
    nulls = dict.fromkeys(
        ["n", "stream", "stream_options", "temperature", "top_p", "stop", "user", "logprobs", "power"]
    )
    both = [http.post(route, json=good | {"seed": 1} | more).json() for more in ({}, nulls)]

    assert both[0]["choices"] == both[1]["choices"]


@pytest.mark.parametrize("name", ["echo", "max_tokens"])
def test_null_is_the_default_of_text_too(http: httpx.Client, name: str) -> None:
    assert http.post(TEXT[0], json=TEXT[1] | {name: None}).status_code == 200


def test_every_field_of_the_official_client_is_known_here() -> None:
    """So that none of them is called unknown: each is honoured, or refused as not offered."""
    not_body = {"extra_headers", "extra_query", "extra_body", "timeout", "self"}

    def asked(method: Any) -> set[str]:
        return set(inspect.signature(method).parameters) - not_body

    assert asked(Completions.create) - set(CompletionRequest.model_fields) == set()
    unknown = asked(ChatCompletions.create) - set(ChatRequest.model_fields)
    assert unknown == set()


@pytest.mark.parametrize("model", [CompletionRequest, ChatRequest, ChatMessage, PowerOptions])
def test_every_field_is_in_the_documentation(model: type[BaseModel]) -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "api.md").read_text(encoding="utf-8")
    if model is PowerOptions:
        text += (root / "README.md").read_text(encoding="utf-8")
    assert [name for name in model.model_fields if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", ["guided_regex", "grammar", "top_k", "min_p", "cache_salt", "priority", "top_n"])
def test_fields_of_other_servers_are_refused_by_name(http: httpx.Client, name: str) -> None:
    for route, good in (TEXT, CHAT):
        error = assert_error(http.post(route, json=good | {name: 1}), 422)
        assert error["param"] == name
        assert error["code"] == "unknown_field"
