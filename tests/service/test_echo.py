"""`echo` gives the prompt back, and with `logprobs` what the base model thinks of it: log-likelihood over HTTP."""

import math
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

from sampler.engine import EngineInfo, Support
from sampler.engines.tabular import from_table
from tests.service.checks import assert_error, assert_still_answers
from tests.service.conftest import MODEL
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import gap_table, letters_table

POWER: dict[str, Any] = {"blocks": 2, "steps_per_block": 2}


def ask(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    """The reply to a request that echoes."""
    reply = http.post("/v1/completions", json={"model": MODEL, "max_tokens": 4, "seed": 1, "echo": True} | fields)
    assert reply.status_code == 200, reply.text[:500]
    return reply.json()


@pytest.mark.parametrize("power", [None, POWER], ids=["plain", "power"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_prompt_comes_before_each_of_its_answers(
    client: openai.OpenAI, power: dict[str, Any] | None, stream: bool
) -> None:
    def texts(**fields: Any) -> list[str]:
        options: dict[str, Any] = {"model": MODEL, "prompt": ["one", "two"], "n": 2, "max_tokens": 4, "seed": 3}
        reply = client.completions.create(**options, extra_body={"power": power}, **fields)
        found = [""] * 4
        for chunk in reply if stream else [reply]:
            for choice in chunk.choices:
                found[choice.index] += choice.text
        return found

    answers = texts(stream=stream)
    assert texts(stream=stream, echo=True) == [
        f"{p}{a}" for p, a in zip(("one", "one", "two", "two"), answers, strict=True)
    ]


def test_a_prompt_of_ids_is_echoed_as_the_text_they_stand_for(http: httpx.Client) -> None:
    ids = [0, 1, 1]
    text = http.post("/detokenize", json={"tokens": ids}).json()["prompt"]

    assert ask(http, prompt=ids)["choices"][0]["text"].startswith(text)


@pytest.mark.table
@pytest.mark.parametrize("power", [None, POWER], ids=["plain", "power"])
def test_the_prompts_logprobs_are_the_models_own(http: httpx.Client, power: dict[str, Any] | None) -> None:
    engine, ids = from_table(letters_table()), [0, 1, 0, 0]
    for choice in ask(http, prompt=ids, n=3, logprobs=2, power=power)["choices"]:
        found = choice["logprobs"]
        assert found["tokens"][:4] == ["a", "b", "a", "a"]
        assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
        for at in range(1, 4):
            row = engine.row(tuple(ids[1:at]), 1.0, Support())
            wanted = {"ab<"[int(token)]: row.log_p(i) for i, token in enumerate(row.ids)}
            assert found["token_logprobs"][at] == pytest.approx(wanted[found["tokens"][at]], abs=1e-9)
            assert len(found["top_logprobs"][at]) == 2
        assert found["text_offset"] == list(range(len(found["tokens"])))
        assert "".join(found["tokens"]).removesuffix("<eos>") == choice["text"]


@pytest.mark.table
def test_the_answers_part_is_the_same_as_without_echo(http: httpx.Client) -> None:
    ids, power = [0, 1, 0], {"alpha": 2.0} | POWER
    for echoed, alone in zip(
        ask(http, prompt=ids, n=4, logprobs=1, power=power)["choices"],
        ask(http, prompt=ids, n=4, logprobs=1, power=power, echo=False)["choices"],
        strict=True,
    ):
        for field in ("tokens", "token_logprobs", "top_logprobs"):
            assert echoed["logprobs"][field][3:] == alone["logprobs"][field]
        assert echoed["power"] == alone["power"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_no_tokens_at_all_score_the_prompt_alone(client: openai.OpenAI, stream: bool) -> None:
    made: Any = client.completions.create(
        model=MODEL, prompt=[0, 1, 1, 0], max_tokens=0, echo=True, logprobs=1, n=2, stream=stream
    )
    choices = [choice for chunk in (made if stream else [made]) for choice in chunk.choices]

    assert len(choices) == 2
    for choice in choices:
        assert choice.logprobs is not None
        assert len(choice.logprobs.tokens or []) == 4
        assert all(value < 0 for value in (choice.logprobs.token_logprobs or [])[1:])
        assert choice.finish_reason == "length"
    if not stream:
        assert made.usage.completion_tokens == 0


def test_a_prompt_of_one_token_has_nothing_to_score(http: httpx.Client) -> None:
    logprobs = ask(http, prompt=[0], max_tokens=0, logprobs=1)["choices"][0]["logprobs"]

    assert logprobs["token_logprobs"] == [None]


@pytest.mark.table
def test_the_loglikelihood_of_every_continuation_sums_to_one(http: httpx.Client) -> None:
    """Over all endings of one length, as a harness asks for them."""
    total = 0.0
    for first in range(3):
        for second in range(3):
            found = ask(http, prompt=[1, first, second], max_tokens=0, logprobs=0)["choices"][0]["logprobs"]
            total += math.exp(sum(found["token_logprobs"][1:]))
    assert total == pytest.approx(1)


def test_an_impossible_prompt_has_null_and_never_infinity() -> None:
    with serving(FaultyEngine(gap_table())) as url, httpx.Client(base_url=url, timeout=30) as http:
        reply = http.post(
            "/v1/completions",
            json={"model": "letters", "prompt": [0, 1, 3], "max_tokens": 0, "echo": True, "logprobs": 4},
        )
    assert "Infinity" not in reply.text
    assert "NaN" not in reply.text
    logprobs = reply.json()["choices"][0]["logprobs"]
    assert logprobs["token_logprobs"][1] is None
    assert None in logprobs["top_logprobs"][1].values()


def test_without_echo_no_tokens_are_refused(http: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": "a", "max_tokens": 0}
    for change in ({}, {"logprobs": 1}, {"echo": False}):
        error = assert_error(http.post("/v1/completions", json=body | change), 422)
        assert error["param"] == "max_tokens"
        assert "echo" in error["message"]
    assert_error(http.post("/v1/completions", json=body | {"echo": True, "power": POWER}), 422)
    assert_still_answers(http)


class Scoreless(FaultyEngine):
    """An engine that cannot score."""

    @property
    def info(self) -> EngineInfo:
        """As it says itself."""
        return replace(super().info, scores=False)


def test_an_engine_that_cannot_score_refuses_echo_with_logprobs_and_still_echoes() -> None:
    with serving(Scoreless(letters_table())) as url, httpx.Client(base_url=url, timeout=30) as http:
        body = {"model": "letters", "prompt": "ab", "max_tokens": 1, "echo": True}
        error = assert_error(http.post("/v1/completions", json=body | {"logprobs": 1}), 422)
        assert error["param"] == "echo"
        assert "cannot score" in error["message"]
        assert http.post("/v1/completions", json=body).json()["choices"][0]["text"].startswith("ab")
