"""A server that does not give what is needed is refused at start, in one line that says what to change."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampler.engine import EngineOptions, load_engine
from sampler.engines.remote import connect
from sampler.engines.remote.client import Patience
from sampler.engines.remote.servers import check_url
from sampler.errors import InvalidParams, ModelNotFound
from tests.engines.fake_vllm import FakeVLLM, error, running
from tests.engines.remotes import wide_table

BRISK = Patience(connect_s=30, read_s=30)


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    with running(FakeVLLM(wide_table())) as server:
        yield server


def load(*urls: str, **changes: Any) -> None:
    engine = connect(list(urls), **({"eos_ids": (23,), "patience": BRISK} | changes))
    asyncio.run(engine.aclose())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_logprobs": 20}, "start vllm serve at http.* with --max-logprobs 24"),
        ({"fields": {"token_ids": None}}, "does not return token ids .*0.10.2"),
        ({"fields": {"logprobs": None}}, "does not return logprobs"),
        ({"names": "token {}"}, "by text, not by id"),
        ({"tempered": True}, "--logprobs-mode raw_logprobs"),
        ({"seeded": False}, "does not obey `seed`"),
        ({"fields": {"prompt_token_ids": [0, 0]}}, "changed the prompt"),
        ({"context": None}, "max_model_len"),
        ({"key": "secret"}, "--api-key"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], words: str) -> None:
    with running(FakeVLLM(wide_table(), **changes)) as fake, pytest.raises(ModelNotFound, match=words) as caught:
        load(fake.url)
    assert "\n" not in str(caught.value)


def test_a_server_that_does_not_stream_is_refused(fake: FakeVLLM) -> None:
    from starlette.responses import JSONResponse

    fake.faults.append(lambda request: JSONResponse({"choices": []}))
    with pytest.raises(ModelNotFound, match="does not stream"):
        load(fake.url)


def test_a_server_that_fails_on_the_probe_is_refused(fake: FakeVLLM) -> None:
    fake.faults.append(lambda request: error(500, "no KV cache"))
    with pytest.raises(ModelNotFound, match=r"refuses a proposal .500.: no KV cache"):
        load(fake.url)


def test_the_key_is_sent_with_every_call() -> None:
    with running(FakeVLLM(wide_table(), key="secret")) as fake:
        load(fake.url, api_key="secret")
        assert fake.unauthorized == 0
        with pytest.raises(ModelNotFound, match="--api-key"):
            load(fake.url, api_key="wrong")


def test_the_model_must_be_served_and_the_same_everywhere(fake: FakeVLLM) -> None:
    load(fake.url, model="fake/model")
    with pytest.raises(ModelNotFound, match="does not serve 'other' but 'fake/model'"):
        load(fake.url, model="other")
    with running(FakeVLLM(wide_table(), model="another")) as second, pytest.raises(ModelNotFound, match="does not"):
        load(fake.url, second.url)


def test_no_server_at_all_and_a_server_that_is_not_vllm() -> None:
    with running(FakeVLLM(wide_table())) as fake:
        url = fake.url
        with pytest.raises(ModelNotFound, match="answers 404"):
            load(f"{url}/elsewhere")
    with pytest.raises(ModelNotFound, match="no server answers at"):
        load(url)


def test_end_of_sequence_ids_must_come_from_somewhere(fake: FakeVLLM) -> None:
    with pytest.raises(ModelNotFound, match=r"--tokenizer.*--eos-ids"):
        load(fake.url, eos_ids=None)


def test_the_servers_tokenizer_serves_text(fake: FakeVLLM) -> None:
    engine = connect([fake.url], eos_ids=(23,), patience=BRISK)
    tokenizer = engine.tokenizer
    assert engine.info.vocabulary == 24
    assert tokenizer.encode("A") == [0, 65 % 24]
    assert tokenizer.response_bytes([1, 23, 2]) == b"<1><2>"
    assert tokenizer.token_text(23) == "<23>"
    assert not tokenizer.tokens_are_bytes
    asyncio.run(engine.aclose())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (EngineOptions(), "url"),
        (EngineOptions(url=()), "url"),
        (EngineOptions(url=("localhost:8000",)), "url"),
        (EngineOptions(url=("ftp://host",)), "url"),
        (EngineOptions(url=("http://user:key@host",)), "url"),
        (EngineOptions(url=("http://host",), dtype="bf16"), "dtype"),
        (EngineOptions(url=("http://host",), kv_cache_bytes=1), "kv_cache_bytes"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: EngineOptions, field: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        load_engine("remote", options)
    assert caught.value.field == field


def test_urls_are_taken_with_and_without_the_api_path() -> None:
    assert check_url("http://host:8000/v1/") == check_url(" http://host:8000 ") == "http://host:8000"
    assert check_url("https://host/vllm/v1") == "https://host/vllm"


def test_the_api_key_is_not_shown(fake: FakeVLLM, tmp_path: Path) -> None:
    assert "secret" not in repr(EngineOptions(api_key="secret"))
