"""The tokenizer over HTTP: what it says of a text is how the text is read; models by name, and the version."""

from importlib import metadata
from typing import Any

import httpx
import openai
import pytest

from sampler.engines.tabular import TabularEngine
from sampler.methods import METHODS
from tests.service.checks import assert_error, assert_still_answers
from tests.service.conftest import MODEL
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import letters_table

HELLO = [{"role": "user", "content": "hello"}]


def tokenize(http: httpx.Client, **body: Any) -> dict[str, Any]:
    """The reply to a good request."""
    reply = http.post("/tokenize", json=body)
    assert reply.status_code == 200, reply.text[:300]
    return reply.json()


def test_a_text_is_counted_as_a_completion_counts_it(client: openai.OpenAI, http: httpx.Client) -> None:
    found = tokenize(http, model=MODEL, prompt="Hello, wörld 🎲")
    usage = client.completions.create(model=MODEL, prompt="Hello, wörld 🎲", max_tokens=1).usage

    assert usage is not None
    assert found.keys() == {"count", "max_model_len", "tokens", "token_strs"}
    assert found["count"] == len(found["tokens"]) == usage.prompt_tokens
    assert found["token_strs"] is None
    assert found["max_model_len"] == http.get(f"/v1/models/{MODEL}").json()["max_model_len"]


def test_messages_are_counted_as_a_chat_counts_them(client: openai.OpenAI, http: httpx.Client) -> None:
    found = tokenize(http, messages=HELLO)
    messages: Any = HELLO
    usage = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1).usage

    assert usage is not None
    assert found["count"] == usage.prompt_tokens
    assert tokenize(http, messages=HELLO, add_generation_prompt=False)["count"] < found["count"]


def test_token_strings_come_when_asked_for(http: httpx.Client) -> None:
    found = tokenize(http, prompt="ab", return_token_strs=True)

    assert len(found["token_strs"]) == found["count"]
    assert all(isinstance(text, str) for text in found["token_strs"])


@pytest.mark.table
def test_ids_become_text_with_control_tokens_by_their_names(http: httpx.Client) -> None:
    assert http.post("/detokenize", json={"tokens": [0, 1, 2, 0]}).json() == {"prompt": "ab<eos>a"}
    assert http.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}


@pytest.mark.table
def test_a_control_tokens_name_alone_is_looked_up_and_within_text_stays_text(http: httpx.Client) -> None:
    assert tokenize(http, prompt="<eos>", add_special_tokens=False)["tokens"] == [2]
    assert len(tokenize(http, prompt="<eos>")["tokens"]) == 5
    assert len(tokenize(http, prompt="a<eos>", add_special_tokens=False)["tokens"]) == 6


def test_the_tokenizer_tells_its_end(http: httpx.Client) -> None:
    info = http.get("/tokenizer_info").json()

    assert info["eos_token"]
    assert info.keys() >= {"bos_token", "pad_token", "chat_template"}


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": HELLO}, "prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
        ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, "add_special_tokens"),
        ("/tokenize", {"messages": HELLO, "chat_template": "{{ 1 }}"}, "chat_template"),
        ("/tokenize", {"messages": HELLO, "chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
        ("/tokenize", {"messages": HELLO, "tools": [{}]}, "tools"),
        ("/tokenize", {"prompt": "a", "truncate": 1}, "truncate"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/detokenize", {"tokens": [0, True]}, "tokens.1"),
        ("/detokenize", {"tokens": [0, 1.5]}, "tokens.1"),
        ("/detokenize", {"tokens": [10**30]}, "tokens"),
    ],
    ids=str,
)
def test_a_bad_request_is_refused_by_name(http: httpx.Client, route: str, body: dict[str, Any], param: str) -> None:
    assert assert_error(http.post(route, json=body), 422)["param"] == param
    assert_still_answers(http)


@pytest.mark.parametrize("route", ["/tokenize", "/detokenize"])
def test_another_model_is_not_found(http: httpx.Client, route: str) -> None:
    body = {"prompt": "a"} if route == "/tokenize" else {"tokens": [0]}
    assert assert_error(http.post(route, json=body | {"model": "gpt-4"}), 404)["code"] == "model_not_found"
    assert http.post(route, json=body | {"model": f"{MODEL}:uniform_cut"}).status_code == 200


def test_each_model_is_found_by_its_name(client: openai.OpenAI) -> None:
    for name in [MODEL, *(f"{MODEL}:{method}" for method in METHODS)]:
        assert client.models.retrieve(name).id == name


@pytest.mark.parametrize("name", ["gpt-4", f"{MODEL}:", f"{MODEL}:magic", "a/b", "..%2Fetc", "%00", "m" * 500])
def test_another_name_is_not_found_in_the_error_shape(http: httpx.Client, name: str) -> None:
    assert assert_error(http.get(f"/v1/models/{name}"), 404)["code"] == "model_not_found"
    assert_still_answers(http)


def test_a_name_beyond_the_limit_is_refused(http: httpx.Client) -> None:
    assert_error(http.get("/v1/models/" + "m" * 513), 422)


def test_a_model_may_have_slashes_in_its_name() -> None:
    made = FaultyEngine(letters_table())
    engine = TabularEngine(letters_table()["vocab"], made.info.eos_ids, made._logits, made._default, "org/model")
    with (
        serving(engine) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        httpx.Client(base_url=url) as http,
    ):
        assert client.models.retrieve("org/model").id == "org/model"
        assert http.get("/v1/models/org/model").json()["id"] == "org/model"
        assert http.get("/v1/models/org/model:smc").json()["id"] == "org/model:smc"
        assert_error(http.get("/v1/models/model"), 404)
        assert client.completions.create(model="org/model", prompt="a", max_tokens=1).model == "org/model"


def test_the_version_is_told(http: httpx.Client) -> None:
    assert http.get("/version").json() == {"version": metadata.version("powercut")}
