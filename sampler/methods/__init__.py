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
from sampler.methods.best_of_n import best_of_n
from sampler.methods.job import Job
from sampler.methods.low_temperature import low_temperature
from sampler.methods.multiple_try import multiple_try
from sampler.methods.power_mh import power_mh
from sampler.methods.smc import smc
from sampler.methods.standard import standard
from sampler.methods.tmc import tmc


@dataclass(frozen=True, slots=True)
class Method:
    """One way to answer, and which of the parameters it uses beside `max_tokens` and `stop`, which all do.

    A caller refuses the others where they are given. `target` names the law that an answer has, or has in the limit.
    """

    run: Callable[[Job], Coroutine[Any, Any, Answer]]
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
    **{f"{cut}_cut": Method(partial(power_mh, cut=cut), CHAIN | law.fields, "p^α") for cut, law in CUTS.items()},
    "multiple_try": Method(multiple_try, CHAIN - {"mode"} | {"cut_power", "tries"}, "p^α"),
    "standard": Method(standard, PLAIN, "p at a temperature, token by token"),
    "low_temperature": Method(low_temperature, DRAWS, "q: p at temperature 1/α, token by token"),
    "best_of_n": Method(best_of_n, TOLD | {"samples"}, "the best of n draws from q"),
    "smc": Method(smc, PARTICLES, "p^α in the limit of many particles"),
    "tmc": Method(tmc, CANDIDATES, "p^α in the limit of many candidates"),
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
