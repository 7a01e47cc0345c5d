"""What a method is asked to do: one answer to one prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sampler.engine import Engine, Priority
from sampler.events import Event
from sampler.params import PlainParams, PowerParams
from sampler.rng import Draws, prompt_digest
from sampler.state import ChainState, Checkpoint
from sampler.tree import MemoTree


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One chain's worth of work. `seed` and `chain` fix every draw; `logprobs` asks for that many alternatives."""

    engine: Engine
    prompt_ids: tuple[int, ...]
    params: PowerParams | PlainParams
    seed: int
    chain: int = 0
    logprobs: int | None = None
    emit: Callable[[Event], None] | None = None
    on_tokens: Callable[[Sequence[int]], None] | None = None
    """Told of ids that will not change any more, as they are drawn, perhaps from the engine's own thread: by plain
    sampling only, since a chain may change any token until its end."""
    affinity: str = ""
    priority: Priority = Priority.INTERACTIVE
    tree: MemoTree | None = None
    """The tree that the chains of this prompt share; a chain without one makes its own."""
    seeded: bool = True
    """Whether somebody chose the seed and expects a replay to give the same tokens."""
    checkpoint: Checkpoint | None = None
    """Told of each stage that a chain finishes; methods without chains have none to tell of."""
    tell_statistics: bool = False
    """Whether a chain's events carry the statistics of the tokens that were drawn."""
    resume: ChainState | None = None
    """The stage to go on from, of this same job; methods without chains begin again."""

    @property
    def draws(self) -> Draws:
        """The draws of this chain on this prompt."""
        return Draws(self.seed, prompt_digest(self.prompt_ids), self.chain)
