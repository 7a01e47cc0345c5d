"""Methods by name: one file each, one line here. All take a `Job` and return an `Answer`.

Each cut law is served as the method `<cut>_cut`, so a new law needs no line here.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from sampler.answer import Answer
from sampler.cuts import CUTS
from sampler.methods.job import Job
from sampler.methods.power_mh import power_mh
from sampler.methods.standard import standard

Method = Callable[[Job], Awaitable[Answer]]

METHODS: dict[str, Method] = {
    **{f"{cut}_cut": partial(power_mh, cut=cut) for cut in CUTS},
    "standard": standard,
}

POWER_METHODS: tuple[str, ...] = tuple(name for name in METHODS if name != "standard")
"""Methods whose target is p^α: those that take `PowerParams`."""
