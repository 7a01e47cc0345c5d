"""Methods by name: one file each, one line here. All take a `Job` and return an `Answer`.

Each cut law is served as the method `<cut>_cut`, so a new law needs no line here.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sampler.answer import Answer
from sampler.cuts import CUTS
from sampler.errors import InvalidParams
from sampler.methods import best_of_n, low_temperature, multiple_try, power_mh, smc, standard, tmc
from sampler.methods.job import Job


@dataclass(frozen=True, slots=True)
class Method:
    """One way to answer, and which of the parameters it uses beside `max_tokens` and `stop`, which all do.

    A caller refuses the others where they are given. `target` names the law that an answer has, or has in the limit.
    """

    run: Callable[[Job], Coroutine[Any, Any, Answer]]
    worst_case_tokens: Callable[[Any], int]
    """Tokens that one answer draws at most, of its parameters; what it costs to let a request in."""
    fields: frozenset[str]
    target: str

    def __call__(self, job: Job) -> Coroutine[Any, Any, Answer]:
        """One answer."""
        return self.run(job)


PLAIN = frozenset({"temperature", "top_p", "top_k"})
DRAWS = frozenset({"alpha", "top_k", "memo_tree", "deadline_s", "max_generated_tokens"})
TOLD = DRAWS | {"stream_events"}
CHAIN = TOLD | {"blocks", "steps_per_block", "mode", "early_rejection", "prefetch", "include", "stop_when_frozen"}

PARTICLES = TOLD | {"blocks", "particles", "ess_threshold", "ramp_tokens"}
CANDIDATES = TOLD | {"blocks", "candidates", "rollouts", "rollout_tokens"}

METHODS: dict[str, Method] = {
    **{
        f"{cut}_cut": Method(partial(power_mh.power_mh, cut=cut), power_mh.worst_case_tokens, CHAIN | law.fields, "p^α")
        for cut, law in CUTS.items()
    },
    "multiple_try": Method(
        multiple_try.multiple_try, multiple_try.worst_case_tokens, CHAIN - {"mode"} | {"cut_power", "tries"}, "p^α"
    ),
    "standard": Method(standard.standard, standard.worst_case_tokens, PLAIN, "p at a temperature, token by token"),
    "low_temperature": Method(
        low_temperature.low_temperature,
        low_temperature.worst_case_tokens,
        DRAWS,
        "q: p at temperature 1/α, token by token",
    ),
    "best_of_n": Method(
        best_of_n.best_of_n, best_of_n.worst_case_tokens, TOLD | {"samples"}, "the best of n draws from q"
    ),
    "smc": Method(smc.smc, smc.worst_case_tokens, PARTICLES, "p^α in the limit of many particles"),
    "tmc": Method(tmc.tmc, tmc.worst_case_tokens, CANDIDATES, "p^α in the limit of many candidates"),
}

POWER_METHODS: tuple[str, ...] = tuple(name for name in METHODS if name != "standard")
"""Methods that take `PowerParams`."""


def refuse_unused(method: str, given: Mapping[str, str]) -> None:
    """Raise `InvalidParams` for the first field given that the method does not use.

    `given` maps fields to what the caller calls them. Fields that no method has in its line are not looked at.
    """
    known = frozenset[str]().union(*(each.fields for each in METHODS.values()))
    for field, name in given.items():
        if field in known - METHODS[method].fields:
            raise InvalidParams(name, f"{name}: the method {method} does not use it")
