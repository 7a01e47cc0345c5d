"""The prefix store gives back exactly what was stored, within its bytes, dropping what was used least recently."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.engines.transformers.prefixes import PrefixStore, common_length

Ids = tuple[int, ...]
SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), min_size=1, max_size=25)


def planes(ids: Ids, start: int, end: int) -> torch.Tensor:
    """Stands for keys and values: a number that depends on the whole prefix up to each position."""
    values = [hash(ids[: at + 1]) % 100_003 for at in range(start, end)]
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, -1, 1)


def insert(store: PrefixStore, ids: Ids) -> None:
    store.insert(ids, lambda start, end: planes(ids, start, end))


def matched(store: PrefixStore, ids: Ids) -> int:
    """Length of the match; asserts that its content is the prefix's."""
    pieces = store.match(ids)
    length = sum(piece.shape[2] for piece in pieces)
    if length:
        assert torch.equal(torch.cat(pieces, 2), planes(ids, 0, length))
    return length


@given(SEQUENCES, SEQUENCES)
def test_the_longest_stored_prefix_is_found(stored: list[Ids], asked: list[Ids]) -> None:
    store = PrefixStore(1 << 20, token_bytes=8)
    for ids in stored:
        insert(store, ids)
    for ids in asked:
        assert matched(store, ids) == max(common_length(ids, other) for other in stored)
    distinct = {ids[:n] for ids in stored for n in range(1, len(ids) + 1)}
    assert store.bytes == 8 * len(distinct), "each prefix is held once"


@given(SEQUENCES, st.integers(0, 12))
@settings(max_examples=200)
def test_memory_stays_within_its_bytes_and_content_stays_right(stored: list[Ids], tokens: int) -> None:
    store = PrefixStore(8 * tokens, token_bytes=8)
    for ids in stored:
        insert(store, ids)
        assert store.bytes <= 8 * tokens
        if len(ids) <= tokens:
            assert matched(store, ids) == len(ids), "the newest prefix stays"
        for other in stored:
            matched(store, other)


def test_the_least_recently_used_leaf_goes_first() -> None:
    store = PrefixStore(8 * 6, token_bytes=8)
    insert(store, (1, 2, 3))
    insert(store, (4, 5, 6))
    assert matched(store, (1, 2, 3)) == 3  # now the other one is older
    insert(store, (7, 8))
    assert matched(store, (1, 2, 3)) == 3
    assert matched(store, (4, 5, 6)) == 0


def test_a_prefix_larger_than_the_bound_is_not_kept() -> None:
    store = PrefixStore(8 * 2, token_bytes=8)
    insert(store, (1, 2, 3))
    assert (store.bytes, matched(store, (1, 2, 3))) == (0, 0)
