"""`logprobs` are the base model's, over its whole vocabulary, whatever was sampled with; JSON stays JSON."""

import json
import math
from typing import Any

import httpx
import numpy as np
import pytest

from sampler.engine import Support
from sampler.engines.tabular import TabularEngine, from_table
from tests.service.checks import GOOD
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import LETTERS, endless_table, gap_table, letters_table


def log_softmax(engine: TabularEngine, prefix: tuple[int, ...]) -> dict[int, float]:
    """log p of each token after a prefix, from the table itself."""
    row = engine.row(prefix, 1.0, Support())
    logits = np.array([float(value) for value in row.logits])
    return {
        int(token): float(value) for token, value in zip(row.ids, logits - np.logaddexp.reduce(logits), strict=True)
    }


def ask(http: httpx.Client, **fields: Any) -> list[dict[str, Any]]:
    """The choices of a good request's reply, which must be JSON by the book."""
    reply = http.post("/v1/completions", json=GOOD | fields)
    assert reply.status_code == 200, reply.text[:500]
    return json.loads(reply.text, parse_constant=lambda name: pytest.fail(f"{name} in a reply"))["choices"]


@pytest.mark.table
@pytest.mark.parametrize(
    "fields",
    [
        {"power": None},
        {"power": None, "temperature": 0.5, "top_p": 0.8},
        {"power": None, "temperature": 0},
        {"power": {"alpha": 4}},
        {"power": {"alpha": 1, "top_k": 2}},
        {"power": {"alpha": 2, "top_k": None}},
    ],
    ids=str,
)
def test_logprobs_are_the_log_softmax_of_the_rows(http: httpx.Client, fields: dict[str, Any]) -> None:
    engine = from_table(letters_table())
    for choice in ask(http, n=16, logprobs=2, **fields):
        logprobs = choice["logprobs"]
        assert logprobs.keys() == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
        assert "".join(logprobs["tokens"]) == choice["text"] + ("<eos>" if choice["finish_reason"] == "stop" else "")
        ids = tuple(LETTERS.index(token) for token in logprobs["tokens"])
        assert logprobs["text_offset"] == list(range(len(ids)))
        for at, token in enumerate(ids):
            wanted = log_softmax(engine, ids[:at])
            assert logprobs["token_logprobs"][at] == pytest.approx(wanted[token], abs=1e-9)
            top = logprobs["top_logprobs"][at]
            best = sorted(wanted, key=lambda token, wanted=wanted: -wanted[token])[:2]
            assert top == pytest.approx({LETTERS[token]: wanted[token] for token in best}, abs=1e-9)


@pytest.mark.table
def test_zero_logprobs_means_no_alternatives(http: httpx.Client) -> None:
    for choice in ask(http, n=8, logprobs=0):
        assert choice["logprobs"]["top_logprobs"] is None
        ended = choice["finish_reason"] == "stop"
        assert len(choice["logprobs"]["token_logprobs"]) == len(choice["text"]) + ended, "the end has its own"


def test_logprobs_change_no_answer(http: httpx.Client) -> None:
    def without(choice: dict[str, Any]) -> dict[str, Any]:
        return choice | {"logprobs": None}

    assert [without(choice) for choice in ask(http, n=16, logprobs=3)] == ask(http, n=16)


@pytest.mark.table
def test_more_alternatives_than_the_vocabulary_are_all_of_it(http: httpx.Client) -> None:
    for choice in ask(http, n=8, logprobs=20, power=None):
        for top in choice["logprobs"]["top_logprobs"]:
            assert sum(math.exp(value) for value in top.values()) == pytest.approx(1)


def test_with_a_stop_string_tokens_are_those_of_the_trimmed_text() -> None:
    with serving(FaultyEngine(endless_table())) as url, httpx.Client(base_url=url, timeout=30) as http:
        choices = ask(http, n=32, logprobs=1, stop="yz", max_tokens=12)

    assert any(choice["finish_reason"] == "stop" for choice in choices)
    for choice in choices:
        tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
        assert "".join(tokens) == choice["text"]
        assert [choice["text"][at : at + len(token)] for at, token in zip(offsets, tokens, strict=True)] == tokens


def test_a_stop_string_inside_a_token_keeps_the_text_before_it() -> None:
    table = endless_table() | {"vocab": ["a.b", "c"], "default": [0.0, 0.0]}
    with serving(FaultyEngine(table)) as url, httpx.Client(base_url=url, timeout=30) as http:
        choices = ask(http, n=32, logprobs=1, stop=".", max_tokens=6)

    for choice in choices:
        assert "." not in choice["text"]
        assert choice["text"].endswith("a") == (choice["finish_reason"] == "stop")
        assert "".join(choice["logprobs"]["tokens"]).startswith(choice["text"])


@pytest.mark.slow
@pytest.mark.parametrize("power", [None, {}, {"top_k": None}, {"alpha": 100}, {"method": "uniform_cut"}], ids=str)
def test_impossible_tokens_are_null_and_never_infinity(power: dict[str, Any] | None) -> None:
    with serving(FaultyEngine(gap_table())) as url, httpx.Client(base_url=url, timeout=30) as http:
        choices = ask(http, n=16, logprobs=4, max_tokens=6, power=power)

    shown = [top for choice in choices for top in choice["logprobs"]["top_logprobs"]]
    assert any(None in top.values() for top in shown)
    assert all(value is not None for choice in choices for value in choice["logprobs"]["token_logprobs"])
    for choice in choices:
        assert not choice["text"].startswith(("b", "aa", "ab"))


def test_extreme_logits_keep_every_number_finite() -> None:
    table = endless_table() | {"default": [1e300, -1e300, 0.0, None]}
    with serving(FaultyEngine(table)) as url, httpx.Client(base_url=url, timeout=30) as http:
        for choice in ask(http, n=4, logprobs=4, power={"alpha": 100, "include": ["chain"]}):
            assert choice["text"] == "wwww"


def test_characters_split_over_tokens_come_out_whole() -> None:
    table = {"vocab": ["é", "🎲", "\0"], "eos": [], "logits": {}, "default": [0.0, 0.0, 0.0]}
    with serving(FaultyEngine(table)) as url, httpx.Client(base_url=url, timeout=30) as http:
        for choice in ask(http, n=16, logprobs=1):
            assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
            assert set(choice["text"]) <= {"é", "🎲", "\0"}
