"""`POST /v1/chat/completions` by the official client: the same answers as the route for text, in chat's shape."""

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from sampler.engines.tabular import TabularEngine, TabularTokenizer
from sampler.errors import NoChatTemplate
from tests.service.checks import assert_error, assert_still_answers
from tests.service.conftest import MODEL
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import LETTERS, letters_table

POWER: dict[str, Any] = {"alpha": 3.0, "blocks": 2, "steps_per_block": 3}
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def chat(client: openai.OpenAI, **fields: Any) -> ChatCompletion:
    """One chat by power sampling."""
    options = {"model": MODEL, "messages": HELLO, "max_tokens": 4, "extra_body": {"power": POWER}} | fields
    return client.chat.completions.create(**options)


def texts(reply: ChatCompletion) -> list[str]:
    """The answers' texts."""
    return [choice.message.content or "" for choice in reply.choices]


def test_a_conversation_is_answered(client: openai.OpenAI) -> None:
    reply = chat(client, n=3, seed=3)

    assert reply.object == "chat.completion"
    assert reply.id.startswith("chatcmpl-")
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert all(choice.message.role == "assistant" for choice in reply.choices)
    assert all(choice.finish_reason in {"stop", "length"} for choice in reply.choices)
    assert all((choice.model_extra or {})["power"]["method"] == "entropy_cut" for choice in reply.choices)
    assert reply.usage is not None
    assert (reply.usage.model_extra or {})["power"]["steps"] == 3 * 6


def test_chat_continues_the_ids_that_tokenize_gives(client: openai.OpenAI, http: httpx.Client) -> None:
    ids = http.post("/tokenize", json={"messages": HELLO}).json()["tokens"]
    reply = chat(client, n=8, seed=5)
    text = client.completions.create(model=MODEL, prompt=ids, max_tokens=4, n=8, seed=5, extra_body={"power": POWER})

    assert texts(reply) == [choice.text for choice in text.choices]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(ids)


def test_content_may_be_a_list_of_texts_which_are_lines(client: openai.OpenAI) -> None:
    parts: list[Any] = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = chat(client, n=8, seed=1, messages=[{"role": "user", "content": parts}])

    assert texts(asked) == texts(chat(client, n=8, seed=1, messages=[{"role": "user", "content": "one\ntwo"}]))


def test_all_roles_are_heard_and_a_reply_can_be_sent_back(client: openai.OpenAI) -> None:
    first = chat(client, seed=1)
    messages: list[Any] = [
        {"role": "system", "content": "be brief"},
        *HELLO,
        first.choices[0].message.model_dump(),  # with the nulls that the client adds
        {"role": "user", "content": "and now?"},
    ]
    reply = chat(client, seed=1, messages=messages)

    assert reply.usage is not None
    assert first.usage is not None
    assert reply.usage.prompt_tokens > first.usage.prompt_tokens


@pytest.mark.parametrize("extra", [None, {"power": POWER}], ids=["plain", "power"])
def test_a_stream_names_the_speaker_then_brings_the_text_and_its_end(
    client: openai.OpenAI, extra: dict[str, Any] | None
) -> None:
    whole = chat(client, n=3, seed=7, extra_body=extra)
    with client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=4,
        n=3,
        seed=7,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=extra,
    ) as stream:
        chunks = list(stream)

    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    for i in range(3):
        deltas = [choice for chunk in chunks for choice in chunk.choices if choice.index == i]
        assert deltas[0].delta.role == "assistant"
        assert not any(choice.delta.role for choice in deltas[1:])
        assert "".join(choice.delta.content or "" for choice in deltas) == texts(whole)[i]
        assert [choice.finish_reason for choice in deltas[:-1]] == [None] * (len(deltas) - 1)
        assert deltas[-1].finish_reason == whole.choices[i].finish_reason
        assert deltas[-1].model_extra == whole.choices[i].model_extra
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_logprobs_are_those_of_the_completions_route(client: openai.OpenAI, http: httpx.Client) -> None:
    ids = http.post("/tokenize", json={"messages": HELLO}).json()["tokens"]
    reply = chat(client, n=4, seed=2, logprobs=True, top_logprobs=2)
    text = client.completions.create(
        model=MODEL, prompt=ids, max_tokens=4, n=4, seed=2, logprobs=2, extra_body={"power": POWER}
    )

    for choice, other in zip(reply.choices, text.choices, strict=True):
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert other.logprobs is not None
        assert [token.token for token in choice.logprobs.content] == other.logprobs.tokens
        found = [token.logprob for token in choice.logprobs.content]
        assert found == pytest.approx(other.logprobs.token_logprobs, abs=1e-3)
        for token in choice.logprobs.content:
            assert len(token.top_logprobs) == 2
            assert token.bytes is None or bytes(token.bytes).decode(errors="replace") == token.token


def test_logprobs_without_alternatives_have_none(client: openai.OpenAI) -> None:
    for choice in chat(client, n=4, logprobs=True).choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content
        assert all(token.top_logprobs == [] for token in choice.logprobs.content)
    assert all(choice.logprobs is None for choice in chat(client, n=4).choices)


def test_logprobs_stream_with_the_text(client: openai.OpenAI) -> None:
    whole = chat(client, seed=2, logprobs=True, top_logprobs=1, extra_body=None)
    with client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=4, seed=2, logprobs=True, top_logprobs=1, stream=True
    ) as stream:
        found = [choice.logprobs for chunk in stream for choice in chunk.choices if choice.logprobs is not None]

    assert whole.choices[0].logprobs is not None
    assert [token for each in found for token in each.content or []] == whole.choices[0].logprobs.content


def test_both_names_of_the_longest_answer_mean_the_same(client: openai.OpenAI) -> None:
    by_old = chat(client, n=8, seed=6, max_tokens=3)

    assert texts(chat(client, n=8, seed=6, max_tokens=None, max_completion_tokens=3)) == texts(by_old)
    assert texts(chat(client, n=8, seed=6, max_tokens=3, max_completion_tokens=3)) == texts(by_old)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        chat(client, max_tokens=3, max_completion_tokens=4)
    assert caught.value.param == "max_completion_tokens"


def test_without_a_limit_an_answer_has_the_room_that_is_left() -> None:
    table = {"vocab": ["a"], "eos": [], "logits": {}, "default": [0.0]}
    with serving(FaultyEngine(table, context=40)) as url, httpx.Client(base_url=url, timeout=30) as http:
        body = {"model": "letters", "messages": HELLO}
        reply = http.post("/v1/chat/completions", json=body).json()
        used = http.post("/tokenize", json={"messages": HELLO}).json()["count"]

        assert reply["usage"]["completion_tokens"] == 40 - used
        assert reply["choices"][0]["finish_reason"] == "length"
        longer = body | {"messages": [{"role": "user", "content": "x" * 40}]}
        error = assert_error(http.post("/v1/chat/completions", json=longer), 400)
        assert error["code"] == "context_length_exceeded"
        assert "no room" in error["message"]


class Untemplated(TabularTokenizer):
    """The tokenizer of a base model, which has never seen a conversation."""

    def encode_chat(self, messages: Any, *, open_reply: bool = True) -> list[int]:
        """As the real ones do."""
        raise NoChatTemplate()


class BaseModel(FaultyEngine):
    """A table with such a tokenizer."""

    @property
    def tokenizer(self) -> TabularTokenizer:
        """Without a template."""
        return Untemplated(LETTERS, self.info.eos_ids)


def test_a_base_model_without_a_template_says_so_and_completes_text() -> None:
    assert TabularEngine.tokenizer is not BaseModel.tokenizer
    with serving(BaseModel(letters_table())) as url, httpx.Client(base_url=url, timeout=30) as http:
        for route, stream in [("/v1/chat/completions", False), ("/v1/chat/completions", True), ("/tokenize", None)]:
            body = {"model": "letters", "messages": HELLO} | ({} if stream is None else {"stream": stream})
            error = assert_error(http.post(route, json=body), 400)
            assert error["code"] == "no_chat_template"
            assert error["param"] == "messages"
            assert "/v1/completions" in error["message"]
        assert_still_answers(http)


BAD_MESSAGES = {
    "none": ([], "messages"),
    "null": (None, "messages"),
    "text": ("hello", "messages"),
    "a thousand and more": (HELLO * 1025, "messages"),
    "no role": ([{"content": "a"}], "messages.0.role"),
    "a tool": ([{"role": "tool", "content": "a"}], "messages.0.role"),
    "developer": ([{"role": "developer", "content": "a"}], "messages.0.role"),
    "control token as role": ([{"role": "<eos>", "content": "a"}], "messages.0.role"),
    "no content": ([{"role": "user"}], "messages.0.content"),
    "null content": ([{"role": "user", "content": None}], "messages.0.content"),
    "no parts": ([{"role": "user", "content": []}], "messages.0.content"),
    "a number": ([*HELLO, {"role": "user", "content": 5}], "messages.1.content"),
    "an image": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1"}}]}],
        "messages.0.content.0.type",
    ),
    "a named speaker": ([{"role": "user", "content": "a", "name": "x"}], "messages.0.name"),
    "tool calls": ([{"role": "assistant", "content": "a", "tool_calls": [{}]}], "messages.0.tool_calls"),
    "another field": ([{"role": "user", "content": "a", "weight": 1}], "messages.0.weight"),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_bad_messages_are_refused_by_name_and_the_next_request_answered(http: httpx.Client, name: str) -> None:
    messages, param = BAD_MESSAGES[name]
    error = assert_error(http.post("/v1/chat/completions", json={"model": MODEL, "messages": messages}), 422)

    assert error["param"] == param
    assert_still_answers(http)


def test_a_lone_surrogate_in_a_message_is_refused_by_name(http: httpx.Client) -> None:
    content = json.dumps({"model": MODEL, "messages": [*HELLO, {"role": "user", "content": "\ud800"}]})
    reply = http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})

    assert assert_error(reply, 422)["param"] == "messages.1.content"
    assert_still_answers(http)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "a"}, "prompt"),
        ({"echo": True}, "echo"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
        ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
    ],
)
def test_a_bad_chat_field_is_refused_by_name(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    error = assert_error(http.post("/v1/chat/completions", json={"model": MODEL, "messages": HELLO} | fields), 422)

    assert error["param"] == param
    assert_still_answers(http)
