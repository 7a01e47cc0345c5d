"""A tokenizer that is a server's own: but for stop strings, it is never asked while the event loop waits."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sampler.engines.remote import connect
from sampler.engines.remote.tokenizer import ServerTokenizer
from service.settings import Settings
from tests.engines.fake_vllm import FakeVLLM, running
from tests.engines.remotes import QUICK, wide_table
from tests.service.serving import serving

TEXT = {"model": "model", "prompt": "a", "max_tokens": 4, "seed": 1}
CHAT = {"model": "model", "messages": [{"role": "user", "content": "a"}], "max_tokens": 4, "seed": 1}
POWER = {"method": "entropy_cut", "top_k": 3, "blocks": 1, "steps_per_block": 1, "stream_events": True}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("/v1/completions", TEXT | {"logprobs": 2}),
    "streamed text": ("/v1/completions", TEXT | {"logprobs": 2, "stream": True}),
    "live text": ("/v1/completions", TEXT | {"stream": True}),
    "chat": ("/v1/chat/completions", CHAT | {"logprobs": True, "top_logprobs": 2}),
    "streamed chat": ("/v1/chat/completions", CHAT | {"logprobs": True, "top_logprobs": 2, "stream": True}),
    "steps": ("/v1/completions", TEXT | {"stream": True, "power": POWER}),
    "tokenize": ("/tokenize", {"prompt": "ab", "return_token_strs": True}),
    "a token's name": ("/tokenize", {"prompt": "<23>", "add_special_tokens": False}),
    "detokenize": ("/detokenize", {"tokens": [1, 2]}),
}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, ServerTokenizer]]:
    """The service on a server that has the only tokenizer."""
    with running(FakeVLLM(wide_table())) as fake:
        engine = connect([fake.url], eos_ids=(23,), patience=QUICK)
        assert isinstance(engine.tokenizer, ServerTokenizer)
        with serving(engine, Settings()) as url:
            yield url, engine.tokenizer


@pytest.mark.parametrize("kind", REQUESTS)
def test_the_server_is_asked_from_a_thread(
    server: tuple[str, ServerTokenizer], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, tokenizer = server
    on_loop: list[bool] = []
    ask = tokenizer._ask

    def watched(path: str, body: dict[str, Any]) -> dict[str, Any]:
        on_loop.append(asyncio._get_running_loop() is not None)
        return ask(path, body)

    monkeypatch.setattr(tokenizer, "_ask", watched)
    tokenizer._known_text.cache_clear()
    path, body = REQUESTS[kind]
    reply = httpx.post(url + path, json=body, timeout=30)
    assert reply.status_code == 200, reply.text
    assert not any(on_loop), f"{sum(on_loop)} of {len(on_loop)} calls stopped the loop"
    assert on_loop or kind == "a token's name"


def test_what_the_server_says_of_its_ends_is_known_from_the_start(server: tuple[str, ServerTokenizer]) -> None:
    url, tokenizer = server
    tokenizer._known_text.cache_clear()
    assert httpx.get(url + "/tokenizer_info").json()["eos_token"] == "<23>"
    assert tokenizer._known_text.cache_info().misses == 0
