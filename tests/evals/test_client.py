"""The client on a real socket: what is asked again, what is not, and what it reads."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from evals.client import CallFailed, Client, Patience, base_url, read_reply, retry_after, sum_log_p
from tests.evals.servers import Behaviour, Scripted, breaks, chat, completion, refuses, served
from tests.service.serving import free_port

QUICK = Patience(connect_s=2, answer_s=5, retries=3, backoff_s=0.01, backoff_max_s=0.02)
BODY = {"model": "base", "prompt": "p", "seed": 7}


def ask(server: Scripted, patience: Patience = QUICK, key: str | None = None) -> Any:
    """One call to a scripted server."""

    async def run(url: str) -> Any:
        async with Client(url, key, patience) as client:
            return await client.answer("/v1/completions", BODY)

    with served(server.app) as url:
        return asyncio.run(run(url))


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [[refuses(429)], [refuses(503), refuses(429)], [refuses(502), refuses(504)], [breaks], [breaks] * 3]
)
def test_what_passes_is_asked_again_byte_for_byte(script: list[Behaviour]) -> None:
    server = Scripted(script)
    reply = ask(server)
    assert reply.text == "b"
    assert reply.tries == len(script) + 1
    assert server.bodies == [BODY] * (len(script) + 1)
    assert reply.waited_s > 0


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
def test_what_will_not_pass_is_not_asked_again(status: int) -> None:
    server = Scripted([refuses(status, "max_tokens: at most 8\n")])
    with pytest.raises(CallFailed, match=f"{status}: max_tokens: at most 8") as caught:
        ask(server)
    assert caught.value.kind == ("refused" if status < 500 else "failed")
    assert caught.value.status == status
    assert len(server.bodies) == 1


def test_patience_ends() -> None:
    server = Scripted(otherwise=refuses(429, "full"))
    with pytest.raises(CallFailed, match="429: full"):
        ask(server)
    assert len(server.bodies) == QUICK.retries + 1


def test_retry_after_is_waited_for_up_to_a_limit() -> None:
    capped = Patience(answer_s=5, retries=1, retry_after_s=0.05)
    assert ask(Scripted([refuses(429, **{"retry-after": "1000"})]), capped).waited_s >= 0.05
    assert ask(Scripted([refuses(503, **{"retry-after": "0"})])).tries == 2


@pytest.mark.parametrize(
    ("value", "seconds"), [("2", 2.0), ("0.5", 0.5), ("-1", 0.0), (None, None), ("soon", None), ("nan", None)]
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    found = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert found is not None
    assert 50 < found <= 60


def test_a_server_that_is_not_there_is_unreachable() -> None:
    async def run() -> None:
        async with Client(f"http://127.0.0.1:{free_port()}", patience=QUICK) as client:
            await client.answer("/v1/completions", BODY)

    with pytest.raises(CallFailed) as caught:
        asyncio.run(run())
    assert caught.value.kind == "unreachable"


def test_a_wait_ends_and_a_cancel_closes_the_connection() -> None:
    server = Scripted()
    server.hold = 60
    with served(server.app) as url:

        async def late() -> None:
            async with Client(url, patience=Patience(answer_s=2)) as client:
                await client.answer("/v1/completions", BODY)

        async def cancelled() -> None:
            async with Client(url, patience=QUICK) as client:
                task = asyncio.create_task(client.answer("/v1/completions", BODY))
                while len(server.bodies) < 2:
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                while server.cancelled < 2:
                    await asyncio.sleep(0.01)

        with pytest.raises(CallFailed, match=r"within 2 s") as caught:
            asyncio.run(late())
        assert caught.value.kind == "timeout"
        asyncio.run(asyncio.wait_for(cancelled(), 60))
    assert server.cancelled == 2


@pytest.mark.slow
@pytest.mark.parametrize("body", ["[]", "{}", '{"choices": []}', "not json", '{"choices": [{"index": 0}]}'])
def test_an_answer_without_a_text_is_malformed(body: str) -> None:
    with pytest.raises(CallFailed) as caught:
        ask(Scripted([lambda _: Response(body, media_type="application/json")]))
    assert caught.value.kind == "malformed"


def test_powercuts_additions_are_read_where_they_are() -> None:
    plain = read_reply(completion("x", 5))
    assert (plain.generated_tokens, plain.power, plain.chain, plain.log_p) == (5, None, None, None)
    more = completion("x", 5, power={"log_p": -2.0, "token_ids": [1], "chain": []}, logprobs={"token_logprobs": [-1.0]})
    more["usage"]["power"] = {"generated_tokens": 40}
    found = read_reply(more)
    assert (found.generated_tokens, found.chain, found.log_p) == (40, {"log_p": -2.0}, -1.0)
    assert read_reply({"choices": [{"text": "x"}]}).generated_tokens is None
    assert read_reply(chat("hello")).text == "hello"


def test_log_p_of_both_shapes() -> None:
    assert sum_log_p(None) is None
    assert sum_log_p({"token_logprobs": [None, -1.0, -0.5]}) == -1.5
    assert sum_log_p({"content": [{"logprob": -2.0}, {"logprob": -1.0}]}) == -3.0
    assert sum_log_p({"content": []}) == 0.0


def test_the_key_goes_along_and_v1_may_be_in_the_url() -> None:
    server = Scripted()
    ask(server, key="secret")
    assert server.headers[0]["authorization"] == "Bearer secret"
    assert base_url("http://h:1/v1/") == base_url("http://h:1") == "http://h:1"


def test_error_pages_are_shortened() -> None:
    with pytest.raises(CallFailed) as caught:
        ask(Scripted([lambda _: Response("x" * 10_000, 500)]))
    assert len(caught.value.message) < 500
    with pytest.raises(CallFailed, match="422: all wrong"):
        ask(Scripted([lambda _: JSONResponse({"error": "all wrong"}, 422)]))
