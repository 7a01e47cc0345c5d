"""The official `openai` client drives a running server, unchanged."""

from typing import Any

import openai
import pytest
from openai.types import Completion

from sampler.methods import METHODS
from tests.service.conftest import MODEL
from tests.service.tables import LETTERS

POWER: dict[str, Any] = {"alpha": 3.0, "blocks": 2, "steps_per_block": 3}


def complete(client: openai.OpenAI, **fields: Any) -> Completion:
    """One completion by power sampling."""
    options = {"model": MODEL, "prompt": "a", "max_tokens": 4, "extra_body": {"power": POWER}} | fields
    return client.completions.create(**options)


def texts(reply: Completion) -> list[str]:
    """The answers' texts."""
    return [choice.text for choice in reply.choices]


def power_of(reply: Completion, index: int = 0) -> dict[str, Any]:
    """What the reply says of one chain."""
    return (reply.choices[index].model_extra or {})["power"]


@pytest.mark.table
def test_text_is_completed(client: openai.OpenAI) -> None:
    reply = complete(client, seed=3)

    assert reply.object == "text_completion"
    assert reply.model == MODEL
    assert reply.id.startswith("cmpl-")
    assert set(reply.choices[0].text) <= {"a", "b"}
    assert reply.choices[0].finish_reason in {"stop", "length"}
    assert power_of(reply)["method"] == "entropy_cut"


@pytest.mark.table
def test_token_ids_are_completed_like_the_text_they_stand_for(client: openai.OpenAI) -> None:
    ids = [byte % len(LETTERS) for byte in b"hello"]

    assert texts(complete(client, prompt="hello", seed=5, n=8)) == texts(complete(client, prompt=ids, seed=5, n=8))


def test_several_prompts_are_answered_in_order(client: openai.OpenAI) -> None:
    reply = complete(client, prompt=["a", "b"], n=3, seed=9)

    assert [choice.index for choice in reply.choices] == list(range(6))
    assert texts(reply)[:3] == texts(complete(client, prompt="a", n=3, seed=9))
    assert texts(reply)[3:] == texts(complete(client, prompt="b", n=3, seed=9))


def test_several_prompts_of_ids_are_answered(client: openai.OpenAI) -> None:
    reply = complete(client, prompt=[[0], [1, 0]], n=2, seed=9)

    assert len(reply.choices) == 4
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 3


def test_n_gives_different_answers(client: openai.OpenAI) -> None:
    reply = complete(client, n=64, seed=1, extra_body={"power": POWER | {"alpha": 1.0}})

    assert len(reply.choices) == 64
    assert len(set(texts(reply))) > 3


def test_a_seed_fixes_the_answers_and_another_changes_them(client: openai.OpenAI) -> None:
    first = texts(complete(client, n=32, seed=1))

    assert texts(complete(client, n=32, seed=1)) == first
    assert texts(complete(client, n=32, seed=2)) != first


def test_a_stop_string_ends_the_answer_and_is_left_out(client: openai.OpenAI) -> None:
    reply = complete(client, n=32, seed=1, stop="b")

    assert all("b" not in text for text in texts(reply))
    assert {choice.finish_reason for choice in reply.choices} >= {"stop"}


@pytest.mark.parametrize("extra", [None, {"power": POWER}], ids=["plain", "power"])
def test_a_stream_carries_what_the_plain_reply_carries(client: openai.OpenAI, extra: dict[str, Any] | None) -> None:
    whole = complete(client, n=4, seed=7, extra_body=extra)
    with client.completions.create(
        model=MODEL,
        prompt="a",
        max_tokens=4,
        n=4,
        seed=7,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=extra,
    ) as stream:
        chunks = list(stream)

    streamed = {choice.index: choice for chunk in chunks for choice in chunk.choices}
    pieces = [[c.text for chunk in chunks for c in chunk.choices if c.index == i] for i in range(4)]
    assert ["".join(each) for each in pieces] == texts(whole)
    assert [streamed[i].finish_reason for i in range(4)] == [choice.finish_reason for choice in whole.choices]
    assert [streamed[i].model_extra for i in range(4)] == [choice.model_extra for choice in whole.choices]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_without_a_power_object_the_base_model_is_sampled(client: openai.OpenAI) -> None:
    reply = client.completions.create(model=MODEL, prompt="a", max_tokens=4, temperature=0.7, top_p=0.9, seed=1)

    assert "power" not in (reply.choices[0].model_extra or {})
    assert reply.usage is not None
    assert "power" not in (reply.usage.model_extra or {})


def test_temperature_zero_is_greedy(client: openai.OpenAI) -> None:
    reply = client.completions.create(model=MODEL, prompt="a", max_tokens=4, temperature=0, n=8)

    assert len(set(texts(reply))) == 1


def test_a_tiny_nucleus_leaves_the_likeliest_token_only(client: openai.OpenAI) -> None:
    greedy = client.completions.create(model=MODEL, prompt="a", max_tokens=4, temperature=0)
    nucleus = client.completions.create(model=MODEL, prompt="a", max_tokens=4, top_p=0.01, n=16)

    assert set(texts(nucleus)) == set(texts(greedy))


def test_with_a_power_method_temperature_is_one_over_alpha(client: openai.OpenAI) -> None:
    by_alpha = complete(client, n=16, seed=4, extra_body={"power": POWER | {"alpha": 4.0}})
    options = {key: value for key, value in POWER.items() if key != "alpha"}

    assert texts(complete(client, n=16, seed=4, temperature=0.25, extra_body={"power": options})) == texts(by_alpha)


def test_an_alias_asks_for_its_method(client: openai.OpenAI) -> None:
    by_alias = complete(client, model=f"{MODEL}:uniform_cut", n=16, seed=2)
    by_field = complete(client, n=16, seed=2, extra_body={"power": POWER | {"method": "uniform_cut"}})

    assert texts(by_alias) == texts(by_field)
    assert power_of(by_alias)["method"] == power_of(by_field)["method"] == "uniform_cut"
    assert by_alias.model == f"{MODEL}:uniform_cut"


def test_an_alias_alone_asks_for_power_sampling(client: openai.OpenAI) -> None:
    reply = client.completions.create(model=f"{MODEL}:entropy_cut", prompt="a", max_tokens=2, seed=1)

    assert power_of(reply)["steps_planned"] == 20, "the defaults: 16 blocks, but only two horizons, of 10 steps"


def test_the_model_is_listed_before_its_aliases(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]

    assert names == [MODEL, *(f"{MODEL}:{method}" for method in METHODS)]


def test_an_unknown_model_is_the_clients_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        complete(client, model="gpt-4")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


@pytest.mark.parametrize("power", [{"alpha": 0}, {"nothing": 1}, {"steps_per_block": 10**9}])
def test_a_bad_power_field_is_the_clients_unprocessable_error(client: openai.OpenAI, power: dict[str, Any]) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        complete(client, extra_body={"power": power})
    assert caught.value.param == f"power.{next(iter(power))}"
    assert caught.value.type == "invalid_request_error"


def test_a_prompt_over_the_context_is_the_clients_bad_request_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, max_tokens=1 << 20)
    assert caught.value.code == "context_length_exceeded"


def test_a_bad_request_to_stream_is_refused_before_the_stream(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError):
        complete(client, stream=True, n=0)
    with pytest.raises(openai.BadRequestError):
        complete(client, stream=True, max_tokens=1 << 20)


async def test_the_async_client_works_too(server: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        reply = await client.completions.create(
            model=MODEL, prompt="a", max_tokens=4, seed=3, extra_body={"power": POWER}
        )
    assert power_of(reply)["seed"] == 3
