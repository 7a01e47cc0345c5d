"""What a chain is given, what it leaves behind, and its state between stages as plain data."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sampler.answer import EndedBy, PowerUsage
from sampler.cuts import CutLaw, CutState, advance
from sampler.engine import Priority
from sampler.params import PowerParams
from sampler.rng import Draws
from sampler.row import Row
from sampler.trace import End, Token, Trace, empty_trace
from sampler.tree import MemoTree


@dataclass(frozen=True, slots=True)
class ChainState:
    """A chain after `stage` finished stages, as plain data: everything needed to go on, in JSON's types.

    The cut law's values are not stored: they follow from `entropy`, bit for bit.
    """

    stage: int
    ids: list[int]
    log_p: list[float]
    log_z: list[float]
    entropy: list[float]
    log_mass: list[float]
    end: str
    usage: dict[str, int]
    still: int = 0
    """Steps in a row, up to here, that left the trace as it was."""
    rows: list[list[Any]] | None = None
    """Where alternatives were asked for: of each token's row the tokens that a reply shows, and its statistics."""


Checkpoint = Callable[[ChainState], None]
"""Told of each finished stage. It must not wait: the chain goes on when it returns."""


@dataclass(frozen=True, slots=True)
class ChainTask:
    """What a chain samples, and with which randomness."""

    prompt_ids: tuple[int, ...]
    params: PowerParams
    law: CutLaw
    draws: Draws
    affinity: str = ""
    priority: Priority = Priority.INTERACTIVE
    keep_rows: bool = False
    head: int = 0
    tree: MemoTree | None = None
    """The rows known of this prompt, shared by its chains."""
    tree_per_stage: bool = False
    """Forget the rows at each stage's end. Where the engine draws by itself, what is asked of it depends on what the
    tree holds; so a chain that must replay, or resume from a stage, may hold only its own rows of this stage. Nor may
    others where a token budget ends the chain: how soon it does depends on what the tree saved."""
    checkpoint: Checkpoint | None = None
    tell_statistics: bool = False
    """Whether events carry the statistics of the tokens that were drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class ChainResult:
    """Where the chain stopped. `state` is its last finished stage, None before the first."""

    trace: Trace
    ended_by: EndedBy
    stage: int
    usage: PowerUsage
    state: ChainState | None


def save(trace: Trace, stage: int, usage: PowerUsage, still: int = 0, head: int = 0) -> ChainState:
    """A finished stage as plain data. Of rows that are kept for the reply, the first `head` tokens are."""
    rows = None if trace.rows is None else [_save_row(row, head) for row in trace.rows]
    return ChainState(
        stage,
        list(trace.ids),
        trace.log_p.tolist(),
        trace.log_z.tolist(),
        trace.entropy.tolist(),
        trace.log_mass.tolist(),
        str(trace.end),
        asdict(usage),
        still,
        rows,
    )


def restore(state: ChainState, law: CutLaw) -> Trace:
    """The trace of a saved stage, its cut-law values recomputed."""
    tokens = [
        Token(*values)
        for values in zip(state.ids, state.log_p, state.log_z, state.entropy, state.log_mass, strict=True)
    ]
    cuts: list[CutState] = []
    for token in tokens:
        cuts.append(advance(law, cuts[-1] if cuts else CutState(), token.entropy))
    weights, norms = [cut.log_weight for cut in cuts], [cut.log_norm for cut in cuts]
    rows = None if state.rows is None else tuple(_restore_row(row) for row in state.rows)
    return empty_trace(rows=rows is not None).spliced(0, tokens, weights, norms, End(state.end), rows)


def _save_row(row: Row, head: int) -> list[Any]:
    kept = min(head, len(row.ids))
    whole = row.complete and kept == len(row.ids)
    numbers = [row.alpha, row.log_norm, row.log_z, row.entropy, row.log_mass]
    return [row.ids[:kept].tolist(), row.logits[:kept].tolist(), min(row.size, kept), whole, *numbers]


def _restore_row(saved: list[Any]) -> Row:
    ids, logits, *rest = saved
    return Row(np.asarray(ids, dtype=np.int32), np.asarray(logits, dtype=np.float64), *rest)
