from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sampler.engines.tabular import TabularTokenizer
from sampler.stops import StopMatcher, trim_at_stop

VOCAB = ["a", "b", "ab", "", "é", "<eos>"]
EOS = frozenset({5})


class WholeText(TabularTokenizer):
    """A tokenizer that has no bytes for single tokens: the whole response is decoded each time."""

    tokens_are_bytes = False


def first_hit(stop: Sequence[str], ids: Sequence[int], kept: int, tokenizer: TabularTokenizer) -> int | None:
    """Index of the token that completes a stop string, by the matcher, the first `kept` ids being a cut's prefix."""
    matcher = StopMatcher(stop, tokenizer).restart(ids[:kept])
    return next((t for t in range(kept, len(ids)) if matcher.hit(ids[t])), None)


def by_definition(stop: Sequence[str], ids: Sequence[int]) -> int | None:
    """The same by looking at the whole response's bytes at every token."""
    text = b""
    for t, token in enumerate(ids):
        text += b"" if token in EOS else VOCAB[token].encode()
        if any(string.encode() in text for string in stop):
            return t
    return None


IDS = st.lists(st.integers(0, 4), min_size=1, max_size=14)
STOPS = st.lists(st.text("abé", min_size=1, max_size=4), max_size=3)


@given(IDS, STOPS, st.data())
def test_a_stop_string_is_found_wherever_the_response_was_cut(
    ids: list[int], stop: list[str], data: st.DataObject
) -> None:
    wanted = by_definition(stop, ids)
    kept = data.draw(st.integers(0, len(ids) - 1 if wanted is None else wanted))
    assert first_hit(stop, ids, kept, TabularTokenizer(VOCAB, EOS)) == wanted
    assert first_hit(stop, ids, kept, WholeText(VOCAB, EOS)) == wanted


def test_a_string_that_straddles_the_cut_is_found() -> None:
    assert first_hit(["ba"], [0, 1, 0], 2, TabularTokenizer(VOCAB, EOS)) == 2


def test_empty_tokens_do_not_hide_what_stands_before_them() -> None:
    assert first_hit(["ba"], [1, 3, 3, 3, 0], 4, TabularTokenizer(VOCAB, EOS)) == 4


def test_without_stop_strings_nothing_stops() -> None:
    assert first_hit([], [0, 1, 2, 4], 0, TabularTokenizer(VOCAB, EOS)) is None


def test_a_matcher_restarted_forgets_what_it_saw() -> None:
    matcher = StopMatcher(["aa"], TabularTokenizer(VOCAB, EOS))
    assert [matcher.hit(token) for token in (0, 0)] == [False, True]
    assert not matcher.restart([1]).hit(0)


def test_the_reply_is_trimmed_before_the_first_stop_string() -> None:
    assert trim_at_stop(b"one\ntwo\n\n", ["\n\n", "two"]) == b"one\n"
    assert trim_at_stop(b"one", ["two"]) == b"one"
    assert trim_at_stop("né".encode(), ["é"]) == b"n"
    assert trim_at_stop(b"", []) == b""
