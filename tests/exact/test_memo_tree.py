"""The memo tree and prefetch: the same tokens, fewer of them or sooner; and a tree that keeps its bounds."""

import asyncio
import itertools
from dataclasses import replace

import numpy as np
import pytest

from sampler.answer import Answer
from sampler.engine import Request, Support
from sampler.engines.tabular import TabularEngine, from_table
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.rng import DrawKey
from sampler.row import Row, row_of_top, sort_logits
from sampler.trace import Segment
from sampler.tree import NODE_BYTES, MemoTree, walk
from sampler.watch import Watcher
from tests.exact.models import EndlessEngine

PARAMS = PowerParams(12, alpha=2.0, cut_power=2.0, blocks=3, steps_per_block=8, top_k=None, stop=("ab",))
PLAIN = replace(PARAMS, early_rejection=False, memo_tree=False, prefetch=False)
COMBINATIONS = [
    replace(PLAIN, early_rejection=early, memo_tree=tree, prefetch=prefetch)
    for early, tree, prefetch in itertools.product([False, True], repeat=3)
]


def run(
    engine: TabularEngine, params: PowerParams, seeds: range, method: str, tree: MemoTree | None = None
) -> list[Answer]:
    async def together() -> list[Answer]:
        jobs = [Job(engine, (0,), params, seed, tree=tree) for seed in seeds]
        return list(await asyncio.gather(*[METHODS[method](job) for job in jobs]))

    return asyncio.run(together())


def outcome(answers: list[Answer]) -> list[tuple[object, ...]]:
    """What must not depend on the savings."""
    return [(a.trace.ids, a.trace.end, a.usage.steps, a.usage.accepted, a.usage.moved) for a in answers]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["entropy_cut", "uniform_cut"])
@pytest.mark.parametrize("top_k", [None, 2])
def test_all_combinations_of_savings_give_the_same_tokens(method: str, top_k: int | None) -> None:
    saved, ahead = 0, 0
    for number in range(4):
        engine = EndlessEngine(number, ("a", "b", "c", "<eos>"), (3,), 1.0, 0.05)
        engine.free_rows = 8
        plain = run(engine, replace(PLAIN, top_k=top_k), range(20), method)
        for params in COMBINATIONS:
            answers = run(engine, replace(params, top_k=top_k), range(20), method)
            assert outcome(answers) == outcome(plain)
            for a, b in zip(answers, plain, strict=True):
                np.testing.assert_array_equal(a.trace.log_norm, b.trace.log_norm)
            if not params.prefetch and params.memo_tree:
                saved += sum(a.usage.free_tokens for a in answers)
                assert sum(a.usage.generated_tokens for a in answers) < sum(b.usage.generated_tokens for b in plain)
            ahead += sum(a.usage.prefetched_tokens for a in answers)
    assert saved > 0
    assert ahead > 0, "some proposal drawn ahead must have been dropped, or the case shows nothing"


def test_a_tree_without_early_rejection_pays_for_each_prefix_once() -> None:
    engine = EndlessEngine(1, ("a", "b", "c", "<eos>"), (3,), 1.0, 0.05)
    tree = MemoTree()
    answers = run(engine, replace(PLAIN, memo_tree=True, stop=()), range(30), "entropy_cut", tree)
    prefixes = count(tree)
    assert sum(a.usage.generated_tokens for a in answers) >= prefixes
    again = run(engine, replace(PLAIN, memo_tree=True, stop=()), range(30), "entropy_cut", tree)
    assert outcome(again) == outcome(answers)
    assert sum(a.usage.generated_tokens for a in again) == 0, "everything they ask for is known by now"


def count(tree: MemoTree) -> int:
    """Prefixes with a row."""
    stack, found = [tree.find(())], 0
    while stack:
        node = stack.pop()
        assert node is not None
        found += node.row is not None
        stack.extend(node.children.values())
    return found


@pytest.mark.parametrize("max_bytes", [0, 3 * NODE_BYTES, 20 * NODE_BYTES])
def test_a_tree_too_small_to_hold_the_rows_costs_tokens_and_changes_none(max_bytes: int) -> None:
    engine = EndlessEngine(2, ("a", "b", "c", "<eos>"), (3,), 1.0, 0.05)
    plain = run(engine, PLAIN, range(10), "entropy_cut")
    small = run(engine, replace(PLAIN, memo_tree=True), range(10), "entropy_cut", MemoTree(max_bytes))
    assert outcome(small) == outcome(plain)


def test_a_tree_keeps_its_bytes_but_never_drops_a_current_trace() -> None:
    def row() -> Row:
        ids, logits = sort_logits(np.zeros(4))
        return row_of_top(ids, logits, 4, 2.0, 0.0)

    size = row().nbytes + NODE_BYTES
    tree = MemoTree(40 * size)
    mine = (1, 1, 1, 1, 1, 1)
    tree.insert((), mine, [row() for _ in mine])
    tree.pin(0, mine)
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = tuple(int(token) for token in rng.integers(2, 4, size=8))
        tree.insert((), ids, [row() for _ in ids])
        assert tree.bytes <= 41 * size
        assert all((node := tree.find(mine[:n])) is not None and node.row is not None for n in range(len(mine)))
    assert tree.bytes == sum_of_bytes(tree)
    tree.pin(0, ())  # the chain has moved on
    for _ in range(60):
        ids = tuple(int(token) for token in rng.integers(2, 4, size=8))
        tree.insert((), ids, [row() for _ in ids])
    assert tree.find(mine) is None, "once it is nobody's trace it may go"


def sum_of_bytes(tree: MemoTree) -> int:
    root = tree.find(())
    assert root is not None
    stack, total = [root], -NODE_BYTES
    while stack:
        node = stack.pop()
        total += NODE_BYTES + (node.row.nbytes if node.row is not None else 0)
        stack.extend(node.children.values())
    return total


class ShortHeads(TabularEngine):
    """Gives rows of the whole vocabulary of which only the first token is kept, as large vocabularies do."""

    async def propose(self, request: Request) -> Segment:
        segment = await super().propose(request)
        assert segment.rows is not None
        cut = tuple(
            replace(row, ids=row.ids[:1], logits=row.logits[:1], size=1, complete=False) for row in segment.rows
        )
        return replace(segment, rows=cut)


@pytest.mark.slow
def test_a_uniform_beyond_a_stored_head_is_drawn_again_from_the_whole_row_with_the_same_uniform() -> None:
    table = {
        "vocab": ["a", "b", "c", "<eos>"],
        "eos": [3],
        "logits": {"": [0.3, 0.0, -0.2, -1.0], "0": [0.0, 0.1, 0.2, 0.0], "1": [0.5, 0.0, 0.0, 0.2]},
        "default": [0.0, 0.2, 0.1, -0.5],
    }
    whole = from_table(table)
    short = ShortHeads(whole.tokenizer._vocab, whole.info.eos_ids, whole._logits, whole._default)
    for method in ("entropy_cut", "uniform_cut"):
        plain = run(whole, PLAIN, range(40), method)
        answers = run(short, replace(PLAIN, memo_tree=True), range(40), method)
        assert outcome(answers) == outcome(plain)
        assert sum(a.usage.free_tokens for a in answers) > 0


def test_chains_that_share_a_tree_give_the_tokens_they_give_alone() -> None:
    engine = EndlessEngine(3, ("a", "b", "c", "<eos>"), (3,), 1.0, 0.05)
    params = replace(PARAMS, prefetch=False)
    alone = [run(engine, params, range(seed, seed + 1), "entropy_cut")[0] for seed in range(12)]
    tree = MemoTree()
    shared = run(engine, params, range(12), "entropy_cut", tree)
    assert outcome(shared) == outcome(alone)
    assert sum(a.usage.generated_tokens for a in shared) < sum(a.usage.generated_tokens for a in alone)


def test_a_walk_stops_where_the_tokens_allowed_end() -> None:
    engine = EndlessEngine(3, ("a", "b", "c", "<eos>"), (3,), 1.0, 0.05)
    tree, key = MemoTree(), DrawKey(b"k" * 32)
    segment = asyncio.run(engine.propose(Request((0,), 6, 2.0, Support(), key, 0, frozenset(), keep_rows=True)))
    assert segment.rows is not None
    tree.insert((), [token.id for token in segment.tokens], segment.rows)

    class Everything(Watcher):
        def __init__(self) -> None:
            self.tokens, self.end = [], None

        def __call__(self, tokens: object) -> None:
            self.tokens += list(tokens)  # type: ignore[call-overload]

    for allowed in range(8):
        watcher = Everything()
        rows = walk(tree, (), key, watcher, allowed)
        assert [token.id for token in watcher.tokens] == [token.id for token in segment.tokens[:allowed]]
        assert len(rows) == min(allowed, 6)
