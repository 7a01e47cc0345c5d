"""Follows one growing suffix: its cut-law values, its running bound, its ends.

The engine calls the watcher with tokens as they are drawn and obeys its verdict; it need not call it at
all, since the chain gives it whatever it has not seen once the segment is there. So engines know neither
cut laws nor text, and a watch interval larger than 1 changes cost but no decision.
"""

from collections.abc import Callable, Sequence

from sampler.cuts import CutLaw, CutState, advance
from sampler.engine import Verdict
from sampler.power import Bound, advance_bound
from sampler.stops import StopMatcher
from sampler.trace import End, Token, Trace

Lost = Callable[[Bound], bool]
"""Whether a proposal with this bound can no longer be chosen; once true it must stay true, for any lower bound too."""


class Watcher:
    """The suffix drawn from position `cut` of `trace`; a cut at the trace's length extends it.

    With `bound`, the suffix is a proposal and the bound runs along; with `lost` too, the watcher rejects as soon
    as the bound is lost. `limit` is the largest number of tokens the suffix may have.
    """

    def __init__(
        self,
        law: CutLaw,
        trace: Trace,
        cut: int,
        limit: int,
        eos_ids: frozenset[int],
        stops: StopMatcher,
        bound: Bound | None = None,
        lost: Lost | None = None,
    ) -> None:
        self.tokens: list[Token] = []
        self.log_weight: list[float] = []
        self.log_norm: list[float] = []
        self.free = 0
        """How many of the first tokens came from rows already known."""
        self.bound = bound
        self.end: End | None = None
        self._law, self._limit, self._eos_ids, self._lost = law, limit, eos_ids, lost
        self._stops = stops.restart(trace.ids[:cut])
        before = cut - 1
        self._state = (
            CutState(cut, float(trace.entropy[before]), float(trace.log_weight[before]), float(trace.log_norm[before]))
            if cut
            else CutState()
        )
        # Row `cut` is common to both traces. Its stored values are kept, so that noise in a second
        # evaluation cannot enter the ratio.
        self._common = (
            (
                float(trace.log_z[cut]),
                float(trace.entropy[cut]),
                float(trace.log_weight[cut]),
                float(trace.log_norm[cut]),
            )
            if cut < len(trace)
            else None
        )

    def __call__(self, tokens: Sequence[Token]) -> Verdict | None:
        """Take the tokens drawn since the last call."""
        for token in tokens:
            if self.end is None:
                self._take(token)
        if self.end is End.REJECTED:
            return Verdict.REJECT
        return None if self.end is None else Verdict.STOP

    @property
    def rejected(self) -> bool:
        """Whether the bound was lost."""
        return self.end is End.REJECTED

    def _take(self, token: Token) -> None:
        if self._common is not None:
            log_z, entropy, log_weight, log_norm = self._common
            token = token._replace(log_z=log_z, entropy=entropy)
            self._state = CutState(self._state.length + 1, entropy, log_weight, log_norm)
            self._common = None
        else:
            self._state = advance(self._law, self._state, token.entropy)
            if self.bound is not None:
                self.bound = advance_bound(self.bound, token.log_z, self._state.log_norm)
        self.tokens.append(token)
        self.log_weight.append(self._state.log_weight)
        self.log_norm.append(self._state.log_norm)
        self.end = self._judge(token.id)

    def _judge(self, token: int) -> End | None:
        if self.bound is not None and self._lost is not None and self._lost(self.bound):
            return End.REJECTED
        if token in self._eos_ids:
            return End.EOS
        if self._stops.hit(token):
            return End.STOP
        return End.LENGTH if len(self.tokens) >= self._limit else None
