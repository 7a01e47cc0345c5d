"""Every bad field is a 4xx that names the field and the limit, and the server answers the next request."""

import math
from typing import Any, NamedTuple

import httpx
import pytest

from tests.service.checks import GOOD, assert_error, assert_still_answers

CONTEXT = 1 << 20
BILLION = 10**9


class Bad(NamedTuple):
    """One row: what the caller changes in a good request, and what the error must say."""

    name: str
    change: dict[str, Any]
    param: str
    says: str
    status: int = 422
    code: str = "invalid_value"


def power(name: str, value: Any, says: str, **more: Any) -> Bad:
    """A row for one field of the `power` object."""
    param = more.pop("param", f"power.{name}")
    return Bad(f"power.{name}={value!r:.20}", {"power": {name: value}}, param, says, **more)


def field(name: str, value: Any, says: str, **more: Any) -> Bad:
    """A row for one plain field."""
    return Bad(f"{name}={value!r:.20}", {name: value}, more.pop("param", name), says, **more)


def count(name: str, low: int, high: int) -> list[Bad]:
    """The rows for a field that counts something."""
    row = power if name.startswith("power.") else field
    name = name.removeprefix("power.")
    return [
        row(name, low - 1, str(low)),
        row(name, -1, str(low)),
        row(name, high + 1, str(high)),
        row(name, 2**31, str(high)),
        row(name, 10**30, str(high)),
        row(name, 1e308, "integer"),
        row(name, True, "integer"),
        row(name, "5", "integer"),
        row(name, 1.5, "integer"),
    ]


PROMPTS = [
    field("prompt", "", "at least one token"),
    field("prompt", [], "at least one token"),
    field("prompt", [[]], "at least one token"),
    field("prompt", ["a", ""], "at least one token"),
    field("prompt", None, "string"),
    field("prompt", 5, "string"),
    field("prompt", {"text": "a"}, "string"),
    field("prompt", [0, 1 << 20], "outside the vocabulary (0 to "),
    field("prompt", [[0], [10**30]], "outside the vocabulary (0 to "),
    field("prompt", ["a"] * 65, "64 prompts"),
    Bad("negative id", {"prompt": [0, -1]}, "prompt.1", "greater than or equal to 0"),
    Bad("bool id", {"prompt": [True]}, "prompt.0", "integer"),
    Bad("float id", {"prompt": [0.5]}, "prompt.0", "integer"),
    Bad("text among ids", {"prompt": [0, "a"]}, "prompt.1", "integer"),
    Bad("ids among text", {"prompt": ["a", 0]}, "prompt.0", "integer"),
    Bad("prompts times n", {"prompt": ["a"] * 3, "n": 128}, "prompt", "256 answers"),
    Bad(
        "one over the context", {"max_tokens": CONTEXT - 1}, "max_tokens", "context is", 400, "context_length_exceeded"
    ),
    Bad("ids over the context", {"prompt": [0] * CONTEXT}, "max_tokens", f"{CONTEXT}", 400, "context_length_exceeded"),
]

COUNTS = [
    *count("n", 1, 128),
    *count("max_tokens", 0, CONTEXT),
    *count("logprobs", 0, 20),
    *count("power.blocks", 1, 256),
    *count("power.steps_per_block", 0, 1000),
    *count("power.top_k", 1, CONTEXT),
    *count("power.max_generated_tokens", 1, 1 << 40)[:3],
    power("steps_per_block", BILLION, "1000"),
]

NUMBERS = [
    *(power("alpha", value, "greater than or equal to 1") for value in (0, -1, 0.5, 1e-9, -0.0)),
    *(power("alpha", value, "less than or equal to 100") for value in (1e9, 100.001)),
    *(power("alpha", value, "number") for value in ("4", True, [4])),
    *(power("cut_power", value, "greater than or equal to 0") for value in (-1, -1e-9)),
    power("cut_power", 1e9, "64"),
    *(power("deadline_s", value, "0.001") for value in (0, -1)),
    power("deadline_s", 1e9, "86400"),
    *(field("temperature", value, "0") for value in (-1, -1e-9)),
    *(field("temperature", value, "2") for value in (2.1, 1e9)),
    *(field("temperature", value, "number") for value in ("1", True)),
    *(field("top_p", value, "greater than or equal to 0.000001") for value in (0, -1, 1e-300)),
    field("top_p", 1.1, "less than or equal to 1"),
    *(field("seed", value, "9223372036854775808") for value in (2**63, 2**64, -(2**63) - 1)),
    *(field("seed", value, "integer") for value in (1.5, "1", True)),
]

CONTRADICTIONS = [
    field("temperature", 0, "power.alpha"),
    field("temperature", 1e-9, "0.01"),
    field("top_p", 0.9, "power.top_k"),
    Bad("temperature against alpha", {"temperature": 0.5, "power": {"alpha": 4}}, "temperature", "alpha = 2"),
    Bad(
        "alias against method",
        {"model": "letters:uniform_cut", "power": {"method": "entropy_cut"}},
        "power.method",
        "uniform_cut",
    ),
    Bad("plain alias with power", {"model": "letters:standard"}, "power.method", "standard"),
]

NAMES = [
    field("model", "gpt-4", "does not exist", status=404, code="model_not_found"),
    field("model", "letters:nothing", "does not exist", status=404, code="model_not_found"),
    field("model", "letters:", "does not exist", status=404, code="model_not_found"),
    field("model", ":entropy_cut", "does not exist", status=404, code="model_not_found"),
    field("model", "../../etc/passwd", "does not exist", status=404, code="model_not_found"),
    field("model", "m" * 512, "does not exist", status=404, code="model_not_found"),
    field("model", "m" * 100_000, "512"),
    field("model", "", "at least 1"),
    field("model", None, "string"),
    power("method", "magic", "unknown method 'magic'; choose one of entropy_cut, uniform_cut"),
    power("method", "standard", "choose one of"),
    power("method", "m" * 100_000, "64"),
    power("mode", "papers", "'exact'"),
    power("include", ["everything"], "'chain'", param="power.include.0"),
    power("include", ["chain"] * 9, "8"),
    power("include", "chain", "list"),
    power("early_rejection", 1, "boolean"),
    power("early_rejection", "yes", "boolean"),
    Bad("power is a list", {"power": []}, "power", "dictionary or object"),
    Bad("power is true", {"power": True}, "power", "dictionary or object"),
    field("stop", "", "at least 1"),
    field("stop", ["a", ""], "at least 1", param="stop.1"),
    field("stop", ["a"] * 17, "16"),
    field("stop", "s" * 257, "256"),
    field("stop", 5, "string"),
    field("stream", "true", "boolean"),
    field("stream", 1, "boolean"),
    Bad("stream option", {"stream_options": {"nothing": 1}}, "stream_options.nothing", "", code="unknown_field"),
]

UNKNOWN = [
    field(name, value, "not permitted", code="unknown_field")
    for name, value in [
        ("chat_template_kwargs", {}),
        ("guided_regex", "(a+)+$"),
        ("prompt_embeds", "AAAA"),
        ("image_url", "http://127.0.0.1/"),
        ("cache_salt", "x"),
        ("k" * 63, 1),
    ]
] + [power(name, 1, "not permitted", code="unknown_field") for name in ("particle", "Alpha", "K", "nothing")]


def merged(change: dict[str, Any]) -> dict[str, Any]:
    """The good request with a change; the power object is changed field by field."""
    options = change.get("power")
    return GOOD | change | ({"power": GOOD["power"] | options} if isinstance(options, dict) else {})


@pytest.mark.parametrize(
    "bad", [*PROMPTS, *COUNTS, *NUMBERS, *CONTRADICTIONS, *NAMES, *UNKNOWN], ids=lambda bad: bad.name.replace(" ", "-")
)
def test_a_bad_field_is_refused_by_name_and_the_next_request_answered(http: httpx.Client, bad: Bad) -> None:
    reply = http.post("/v1/completions", json=merged(bad.change))

    error = assert_error(reply, bad.status)
    assert error["param"] == bad.param
    assert error["code"] == bad.code
    assert bad.says in error["message"]
    assert bad.status == 404 or error["message"].startswith(bad.param) or "context" in error["message"]
    assert_still_answers(http)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("name", ["alpha", "cut_power", "deadline_s"])
def test_a_number_that_is_none_is_refused_by_name(http: httpx.Client, name: str, literal: str) -> None:
    body = f'{{"model": "letters", "prompt": "a", "power": {{"{name}": {literal}}}}}'
    reply = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})

    assert assert_error(reply, 422)["param"] == f"power.{name}"
    assert_still_answers(http)


@pytest.mark.parametrize("name", ["temperature", "top_p"])
@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_a_plain_number_that_is_none_is_refused_by_name(http: httpx.Client, name: str, literal: str) -> None:
    body = f'{{"model": "letters", "prompt": "a", "{name}": {literal}}}'
    reply = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})

    assert assert_error(reply, 422)["param"] == name
    assert_still_answers(http)


def test_all_wrong_fields_are_named_at_once(http: httpx.Client) -> None:
    reply = http.post("/v1/completions", json=merged({"n": 0, "power": {"alpha": 0, "nothing": 1}}))

    message = assert_error(reply, 422)["message"]
    assert all(name in message for name in ("n", "power.alpha", "power.nothing"))


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": " \n\t"},
        {"prompt": "a\0b"},
        {"prompt": "e\u0301\u202eעברית <|im_end|> <eos> 🎲"},
        {"prompt": [2, 2, 2]},
        pytest.param({"prompt": [0] * 1000}, marks=pytest.mark.table),
        pytest.param({"prompt": "x" * 1_000_000}, marks=pytest.mark.table),
        pytest.param(
            {"prompt": [0], "max_tokens": CONTEXT - 1, "power": {"max_generated_tokens": 1}}, marks=pytest.mark.table
        ),
        {"max_tokens": 1, "power": {"blocks": 256}},
        {"max_tokens": 3, "power": {"blocks": 2}},
        {"power": {"alpha": 1}},
        {"power": {"alpha": 100, "cut_power": 64}},
        {"power": {"cut_power": 0, "steps_per_block": 0}},
        pytest.param({"power": {"top_k": None}}, marks=pytest.mark.table),
        pytest.param({"power": {"top_k": 1}}, marks=pytest.mark.table),
        pytest.param({"power": {"top_k": CONTEXT}}, marks=pytest.mark.table),
        {"power": None},
        {"temperature": 2},
        {"temperature": 0.25, "power": {"alpha": 4}},
        {"top_p": 1},
        {"seed": -(2**63)},
        {"seed": 2**63 - 1},
        {"stop": None, "stream": False, "logprobs": None},
    ],
    ids=lambda change: str(change)[:40],
)
def test_an_odd_but_legal_request_is_answered(http: httpx.Client, change: dict[str, Any]) -> None:
    reply = http.post("/v1/completions", json=merged(change))

    assert reply.status_code == 200, reply.text[:300]
    assert math.isfinite(reply.json()["usage"]["completion_tokens"])
