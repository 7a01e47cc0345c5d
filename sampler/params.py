"""The parameters of a power-sampling request, validated for every caller and not only for HTTP."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from sampler.errors import InvalidParams

Mode = Literal["exact", "paper"]

LIMITS: dict[str, tuple[float, float]] = {
    "alpha": (0.5, 100.0),  # vLLM raises temperatures under 0.01 and refuses those over 2
    "cut_power": (0.0, 64.0),  # above it Δ^β underflows even float64 for ordinary jumps
    "blocks": (1, 256),
    "steps_per_block": (0, 1000),
    "max_tokens": (1, 1 << 20),
    "top_k": (1, 1 << 20),
    "temperature": (0.0, 2.0),
    "top_p": (1e-6, 1.0),
    "deadline_s": (0.001, 86_400.0),
    "max_generated_tokens": (1, 1 << 40),
    "particles": (1, 4096),
    "ess_threshold": (0.0, 1.0),
    "ramp_tokens": (0, 1 << 20),
    "candidates": (1, 1024),
    "rollouts": (1, 1024),
    "rollout_tokens": (1, 1 << 20),
    "tries": (1, 256),
    "stop_when_frozen": (1, 1000),
    "samples": (1, 256),  # as in the paper's code, which draws no more whatever the budget
}
"""Field → (smallest, largest) allowed value, shared with the HTTP schema."""


@dataclass(frozen=True, slots=True)
class PowerParams:
    """Power sampling as asked for; defaults are the paper's (arXiv 2605.30327).

    Which fields a method uses, its line in `sampler.methods.METHODS` says; callers refuse the others if given.

    `alpha` α; `cut_power` β; `blocks` K stages of `steps_per_block` steps; `max_tokens` T, the horizon of the
    last stage and so a part of the target; `top_k` the support (None: the whole vocabulary). `early_rejection`,
    `memo_tree` and `prefetch` change the cost of a chain and none of its tokens. `deadline_s` (from
    the chain's start), `max_generated_tokens` and `stop_when_frozen` (so many steps in a row without a move, of a
    finished trace or in the last stage) stop a chain early: what it then returns is not a draw from π.
    `mode` "paper" (`sampler.paper`) is the released code's chain, which has another limit; it has no early rejection
    and no memo tree, whatever the two fields say.

    `particles` N, `ess_threshold` κ and `ramp_tokens` (0: no ramp) are those of `smc`; `candidates`, `rollouts` and
    `rollout_tokens` (None: to the horizon) of `tmc`; `tries` of `multiple_try`; `samples` of `best_of_n` (None: as many
    as `max_generated_tokens` buys, or 8 without one).
    """

    max_tokens: int
    alpha: float = 4.0
    cut_power: float = 4.0
    blocks: int = 16
    steps_per_block: int = 10
    top_k: int | None = 50
    mode: Mode = "exact"
    early_rejection: bool = True
    memo_tree: bool = True
    prefetch: bool = True
    stop: tuple[str, ...] = ()
    deadline_s: float | None = None
    max_generated_tokens: int | None = None
    particles: int = 64
    ess_threshold: float = 0.5
    ramp_tokens: int = 0
    candidates: int = 8
    rollouts: int = 8
    rollout_tokens: int | None = None
    tries: int = 4
    samples: int | None = None
    stop_when_frozen: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name in LIMITS:
                check_limit(field.name, getattr(self, field.name))
        if self.mode not in get_args(Mode):
            raise InvalidParams("mode", f"mode must be 'exact' or 'paper', not {self.mode!r}")
        if any(not text for text in self.stop):
            raise InvalidParams("stop", "a stop string must not be empty")

    @property
    def horizons(self) -> tuple[int, ...]:
        """h_k = ⌈kT/K⌉ tokens for k = 1..K, duplicates dropped."""
        return tuple(dict.fromkeys(-(-k * self.max_tokens // self.blocks) for k in range(1, self.blocks + 1)))

    @property
    def planned_steps(self) -> int:
        """Steps of a chain that no budget stops."""
        return len(self.horizons) * self.steps_per_block

    @property
    def worst_case_tokens(self) -> int:
        """Tokens drawn if every cut falls at 0, no trace ends early and nothing is rejected early.

        Free ones are among them, and no budget is looked at. Those drawn ahead and dropped are not.
        """
        return self.max_tokens + self.steps_per_block * sum(self.horizons)

    def within_budget(self, tokens: int) -> int:
        """So many tokens, or `max_generated_tokens` if that is less."""
        return tokens if self.max_generated_tokens is None else min(tokens, self.max_generated_tokens)


@dataclass(frozen=True, slots=True)
class PlainParams:
    """Plain sampling from the base model: one draw, no chain. `temperature` 0 is greedy."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int = 0

    def __post_init__(self) -> None:
        for name in ("max_tokens", "temperature", "top_p", "top_k"):
            check_limit(name, getattr(self, name))
        if self.top_k is not None and self.top_p < 1.0:
            raise InvalidParams("top_p", "give top_k or top_p, not both")

    @property
    def alpha(self) -> float:
        """1 / temperature, infinite for greedy."""
        return 1.0 / self.temperature if self.temperature > 0 else math.inf


def check_limit(name: str, value: float | None) -> None:
    """Raise `InvalidParams` unless a bounded field's value is None or within its limits."""
    if value is None:
        return
    low, high = LIMITS[name]
    if not math.isfinite(value) or not low <= value <= high:
        raise InvalidParams(name, f"{name} must be between {low} and {high}, not {value}")
