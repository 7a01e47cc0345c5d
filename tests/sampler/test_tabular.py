import asyncio
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sampler.engine import EngineOptions, Request, Support, Verdict, load_engine
from sampler.engines.tabular import TabularEngine, from_table
from sampler.errors import InvalidParams, ModelNotFound
from sampler.rng import Draws, Kind
from sampler.trace import End, Segment

TABLE: dict[str, Any] = {
    "vocab": ["a", "b", "<eos>"],
    "eos": [2],
    "logits": {"": [0.0, 1.0, None], "0": [0.0, 0.0, 0.0], "0 1": [None, None, 0.0]},
    "default": [1.0, 0.0, -1.0],
}


def engine() -> TabularEngine:
    return from_table(TABLE)


def propose(response: tuple[int, ...] = (), **changes: Any) -> Segment:
    fields: dict[str, Any] = {
        "ids": (0, *response),
        "max_tokens": 8,
        "alpha": 1.0,
        "support": Support(),
        "key": Draws(0, b"").key(Kind.TOKEN, 0, 0),
        "position": len(response),
        "eos_ids": frozenset({2}),
    }
    return asyncio.run(engine().propose(Request(**{**fields, **changes})))


def test_rows_come_from_the_response_and_else_from_the_default() -> None:
    assert engine().row((0,), 1.0, Support()).entropy == pytest.approx(math.log(3))
    assert engine().row((1, 1), 1.0, Support()).logits.tolist() == [1.0, 0.0, -1.0]
    row = engine().row((), 1.0, Support())
    assert (row.size, row.ids[: row.size].tolist()) == (2, [1, 0])


def test_the_prompt_plays_no_part() -> None:
    assert propose().tokens == propose(ids=(1, 1, 0)).tokens


def test_token_number_i_uses_the_uniform_of_its_position() -> None:
    whole = propose(eos_ids=frozenset())
    for kept in range(1, 4):
        ids = tuple(token.id for token in whole.tokens[:kept])
        again = propose(ids, eos_ids=frozenset(), max_tokens=8 - kept)
        assert again.tokens == whole.tokens[kept:]


def test_a_segment_ends_at_the_end_of_sequence_or_at_its_length() -> None:
    assert (propose((0, 1)).end, len(propose((0, 1)).tokens)) == (End.EOS, 1)
    assert (propose(eos_ids=frozenset(), max_tokens=3).end, len(propose(max_tokens=1).tokens)) == (End.LENGTH, 1)


@pytest.mark.parametrize(("verdict", "end"), [(Verdict.STOP, End.STOP), (Verdict.REJECT, End.REJECTED)])
def test_any_verdict_ends_the_segment(verdict: Verdict, end: End) -> None:
    segment = propose(watch=lambda tokens: verdict, eos_ids=frozenset())
    assert (segment.end, len(segment.tokens)) == (end, 1)


def test_top_k_keeps_the_largest_and_renormalises() -> None:
    row = engine().row((1,), 2.0, Support.of(2))
    assert row.ids[: row.size].tolist() == [0, 1]
    assert np.exp([row.log_p(0), row.log_p(1)]).sum() == pytest.approx(1)
    assert row.log_mass < 0


def test_top_p_keeps_the_nucleus() -> None:
    assert engine().row((1,), 1.0, Support.of(None, 0.5)).size == 1
    assert engine().row((1,), 1.0, Support.of(None, 0.7)).size == 2


def test_rows_are_returned_when_asked_for() -> None:
    segment = propose(keep_rows=True)
    assert segment.rows is not None
    assert len(segment.rows) == len(segment.tokens)
    assert propose().rows is None


def test_scores_are_those_of_the_drawn_tokens() -> None:
    segment = propose(eos_ids=frozenset())
    ids = [0, *(token.id for token in segment.tokens)]
    tokens, rows = asyncio.run(engine().score(ids, 1))
    assert list(tokens) == list(segment.tokens)
    assert len(rows) == len(tokens)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ()}, "at least one token"),
        ({"ids": (3,)}, "between 0 and 2"),
        ({"max_tokens": 0}, "at least 1"),
        ({"max_tokens": 1 << 20}, "context"),
        ({"alpha": 0.0}, "positive"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParams, match=message):
        propose(**changes)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "JSON object"),
        ({"vocab": []}, "non-empty list"),
        ({"vocab": ["a", 1]}, "list of strings"),
        ({"vocab": ["a"], "eos": [1]}, "between 0 and 0"),
        ({"vocab": ["a"], "eos": [True]}, "ids between"),
        ({"vocab": ["a", "b"], "default": [0.0]}, "'default' must list 2"),
        ({"vocab": ["a", "b"], "logits": {"x": [0, 0]}}, "separated by spaces"),
        ({"vocab": ["a", "b"], "logits": {"0 2": [0, 0]}}, "outside 0..1"),
        ({"vocab": ["a", "b"], "logits": {"0": [None, None]}}, "at least one finite"),
        ({"vocab": ["a", "b"], "logits": {"0": ["x", 0]}}, "neither a number nor null"),
        ({"vocab": ["a", "b"], "logits": {"0": [math.nan, 0]}}, "no NaN"),
        ({"vocab": ["a", "b"], "logit": {}}, "unknown table field 'logit'"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_the_reason(table: Any, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message):
        from_table(table)


def test_a_table_is_loaded_by_name(tmp_path: Path) -> None:
    path = tmp_path / "coin.json"
    path.write_text(json.dumps(TABLE))
    loaded = load_engine("tabular", EngineOptions(model=str(path)))
    assert (loaded.info.model, loaded.info.vocabulary, loaded.info.eos_ids) == ("coin", 3, frozenset({2}))


@pytest.mark.parametrize(("text", "message"), [(None, "cannot read"), ("{", "is not JSON")])
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "table.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ModelNotFound, match=message):
        load_engine("tabular", EngineOptions(model=str(path)))


def test_text_leaves_out_the_end_of_sequence() -> None:
    tokenizer = engine().tokenizer
    assert tokenizer.response_bytes([0, 1, 2]) == b"ab"
    assert tokenizer.token_text(2) == "<eos>"
    assert all(0 <= token < 3 for token in tokenizer.encode("any text é"))
