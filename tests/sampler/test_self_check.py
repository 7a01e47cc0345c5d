"""The self-check holds on a sound engine, and each of its lines fails on an engine with that fault."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sampler.self_check
from sampler.engine import Request
from sampler.engines.tabular import TabularEngine, from_table
from sampler.errors import EngineError
from sampler.rng import DrawKey
from sampler.self_check import CHECKS, Finding, self_check
from sampler.trace import End, Segment, Token


def table() -> dict[str, Any]:
    """Random rows for every response of up to four tokens, some open and some sharp, so that entropy jumps."""
    rng = np.random.default_rng(5)

    def row() -> list[float]:
        return [*(rng.normal(size=5) * rng.choice([0.3, 1.5])).tolist(), -3.0]

    keys = [" ".join(map(str, ids)) for length in range(5) for ids in itertools.product(range(5), repeat=length)]
    return {"vocab": [*"abcde", "<eos>"], "eos": [5], "logits": {key: row() for key in keys}, "default": row()}


class Faulty(TabularEngine):
    """A table with one fault."""

    def __init__(self, fault: str = "") -> None:
        made = from_table(table(), "letters")
        super().__init__(table()["vocab"], made.info.eos_ids, made._logits, made._default, "letters")
        self.fault, self.calls, self.rejected = fault, 0, 0
        if fault == "reuse":
            self._info = replace(self._info, name="transformers")

    @property
    def info(self) -> Any:
        return self._info

    async def propose(self, request: Request) -> Segment:
        self.calls += 1
        if self.fault == "error":
            raise EngineError("the model failed")
        if self.fault == "seeds":
            request = replace(request, key=DrawKey(self.calls.to_bytes(32, "little")))
        if self.fault == "early":  # what a rejected proposal leaves behind changes the next one
            request = replace(request, key=DrawKey(bytes([self.rejected]) + request.key.digest[1:]))
        segment = await super().propose(request)
        self.rejected += segment.end is End.REJECTED
        if self.fault == "statistics":
            return replace(segment, tokens=tuple(_shifted(token, 1e-6) for token in segment.tokens))
        if self.fault == "reuse":
            return replace(segment, prefix_reused=0)
        return segment


def _shifted(token: Token, by: float) -> Token:
    return token._replace(log_z=token.log_z - by)


async def findings(fault: str = "") -> dict[str, Finding]:
    found = await self_check(Faulty(fault))
    return dict(zip([check.__name__ for check in CHECKS], found, strict=True))


async def test_a_sound_engine_holds() -> None:
    found = await findings()
    assert {name: one.holds for name, one in found.items()} == {
        "statistics": True,
        "seeds": True,
        "prefix_reuse": True,
        "early_rejection": True,
        "cut_law_holds": True,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("statistics", "statistics"),
        ("seeds", "seeds"),
        ("reuse", "prefix_reuse"),
        ("early", "early_rejection"),
        ("error", "early_rejection"),
    ],
)
async def test_each_fault_is_found(fault: str, check: str) -> None:
    found = await findings(fault)
    assert found[check].holds is False, found[check].detail


async def test_a_wrong_cut_law_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_cut = sampler.self_check.draw_cut

    def late(log_norm: Sequence[float], u: float) -> int:
        return min(draw_cut(log_norm, u) + 1, len(log_norm) - 1)  # type: ignore[arg-type]

    monkeypatch.setattr(sampler.self_check, "draw_cut", late)
    assert (await findings())["cut_law_holds"].holds is False
