"""What batches ask of the database: polling of every server, and a few writes for each row."""

from collections.abc import Sequence
from dataclasses import dataclass

from sampler.params import PowerParams
from service.capacity.tokens import Lengths, Params

CHECKPOINTED = ("entropy_cut", "uniform_cut", "multiple_try")
"""Methods whose finished stages are saved (docs/batches.md)."""
ROW_WRITES = 4
"""Writes for one row of a batch that runs undisturbed: it is made from the file, claimed, deleted, its result kept."""
POLLS = 3
"""Transactions at each poll of a server: looking for rows, tending batches, counting rows."""


@dataclass(frozen=True, slots=True)
class Polling:
    """Settings of the servers, in seconds, and how large what they write is."""

    poll_s: float = 1.0
    lease_s: float = 30.0
    checkpoint_s: float = 0.2
    token_bytes: float = 81.0
    """Of a checkpoint, for each token of the trace, packed: measured by `python -m tests.bench.plan`."""
    reply_bytes: float = 2000.0


@dataclass(frozen=True, slots=True)
class JobLoad:
    """A database's load by batches, all a second's."""

    rows: float
    row_writes: float
    checkpoints: float
    written_bytes: float
    idle_transactions: float


def job_load(
    method: str,
    params: Params,
    lengths: Lengths,
    rows_s: float,
    service_s: float,
    servers: int,
    polling: Polling,
) -> JobLoad:
    """Of so many rows a second. A chain's stages are saved, but no more often than every `checkpoint_s`.

    Stages that a token budget cuts off are counted all the same.
    """
    kept = params.horizons[:-1] if isinstance(params, PowerParams) and method in CHECKPOINTED else ()
    saved = min(len(kept), service_s / polling.checkpoint_s) if rows_s else 0.0
    size = checkpoint_tokens(kept, lengths) * polling.token_bytes
    return JobLoad(
        rows_s,
        rows_s * (ROW_WRITES + saved),
        rows_s * saved,
        rows_s * (saved * size + polling.reply_bytes),
        servers * (POLLS / polling.poll_s + 4 / polling.lease_s),
    )


def checkpoint_tokens(horizons: Sequence[int], lengths: Lengths) -> float:
    """Tokens of the trace in a checkpoint, in the mean over the stages saved: answers end before a horizon or at it."""
    return sum(map(lengths.reached, horizons)) / max(1, len(horizons))
