"""Text that has been sent is never taken back: whatever the tokens, the pieces make up the finished text."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampler.engines.tabular import TabularTokenizer
from sampler.stops import StopMatcher, trim_at_stop
from sampler.tokenizer import bytes_to_text
from service.live_text import LiveText

VOCAB = ["a", "b", "ab", "", "é", "ba", "<eos>"]
EOS = 6


class Bytewise(TabularTokenizer):
    """A tokenizer that cuts characters into their bytes: ids 0 to 255."""

    def __init__(self) -> None:
        super().__init__(["?"] * 257, frozenset({256}))
        self._bytes = [bytes([i]) for i in range(256)] + [b""]


class Whole(TabularTokenizer):
    """A tokenizer that decodes a response as a whole."""

    tokens_are_bytes = False


def pieces(tokenizer: TabularTokenizer, ids: Sequence[int], stop: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """What is sent of an answer drawn in groups of these sizes, its rest last."""
    ended = ids[: ended_at(tokenizer, ids, stop)]
    live, found, at = LiveText(tokenizer, stop), list[str](), 0
    for size in [*sizes, len(ended)]:
        if at < len(ended):
            found.append(live.feed(ended[at : at + size]))
        at += size
    whole = final(tokenizer, ended, stop)
    assert whole.startswith(live.sent), "nothing sent is taken back"
    return [*found, live.rest(whole)]


def ended_at(tokenizer: TabularTokenizer, ids: Sequence[int], stop: Sequence[str]) -> int:
    """How many ids there are up to the one that completes a stop string."""
    matcher = StopMatcher(stop, tokenizer).restart([])
    return next((t + 1 for t, token in enumerate(ids) if matcher.hit(token)), len(ids))


def final(tokenizer: TabularTokenizer, ids: Sequence[int], stop: Sequence[str]) -> str:
    """The finished answer's text."""
    return bytes_to_text(trim_at_stop(tokenizer.response_bytes(ids), stop))


STOPS = st.lists(st.text("abé", min_size=1, max_size=4), max_size=3)
SIZES = st.lists(st.integers(1, 5), max_size=8)


@pytest.mark.parametrize("kind", [TabularTokenizer, Whole])
@given(ids=st.lists(st.integers(0, EOS), max_size=20), stop=STOPS, sizes=SIZES)
def test_the_pieces_make_up_the_text(
    kind: type[TabularTokenizer], ids: list[int], stop: list[str], sizes: list[int]
) -> None:
    tokenizer = kind(VOCAB, frozenset({EOS}))
    ended = ids[: ended_at(tokenizer, ids, stop)]
    assert "".join(pieces(tokenizer, ids, stop, sizes)) == final(tokenizer, ended, stop)


@given(data=st.binary(max_size=24), sizes=SIZES)
def test_half_characters_wait_for_the_other_half(data: bytes, sizes: list[int]) -> None:
    assert "".join(pieces(Bytewise(), list(data), (), sizes)) == data.decode(errors="replace")


def test_a_character_of_four_tokens_comes_at_once() -> None:
    assert pieces(Bytewise(), list("a🎲b".encode()), (), [1] * 6) == ["a", "", "", "", "🎲", "b", ""]


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    tokenizer = TabularTokenizer(VOCAB, frozenset({EOS}))
    assert pieces(tokenizer, [0, 0, 1, 0, 1, 1], ("abb",), [1] * 6) == ["", "a", "", "ab", "", "", ""]


def test_without_a_stop_string_every_token_is_sent_as_it_is_drawn() -> None:
    tokenizer = TabularTokenizer(VOCAB, frozenset({EOS}))
    assert pieces(tokenizer, [0, 1, 2, EOS], (), [1] * 4) == ["a", "b", "ab", "", ""]
