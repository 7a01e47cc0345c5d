"""`python -m tests.bench.plan`: what `powercut plan` predicts ÷ what is counted and timed, on the transformers engine.

Tokens: on half of the prompts each method's factors are fitted (after how many tokens a proposal is lost, which share
the memo tree knows); on the other half its tokens are predicted, blind (all from the first half) and given acceptance,
cuts, lengths as `/metrics` tells them. Time: the seconds of a decode step are measured with 1 row and with 8; rates at
other numbers of rows and of whole methods are predicted from those two and from the tokens, and measured. Seconds are
the processor's, of one thread: a machine shared with others gives no other.
"""

import argparse
import asyncio
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from scipy.optimize import brentq

from sampler.answer import Answer
from sampler.engine import EngineOptions, load_engine
from sampler.engines.transformers.engine import TransformersEngine
from sampler.events import Event, Stepped
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.tree import MemoTree
from service.capacity.replica import Load, MeasuredStep
from service.capacity.tokens import Behaviour, answer_cost
from service.jobs.rows import pack
from service.jobs.saved import SavedAnswer, to_plain
from tests.bench.chains import decode_rate
from tests.bench.measure import machine
from tests.engines.test_same_tokens import LONG_PROMPTS

BASE = PowerParams(32, blocks=4, steps_per_block=4, prefetch=False, particles=8, candidates=3, rollouts=2, tries=3)
OTHER = replace(BASE, max_tokens=48, blocks=2, steps_per_block=8)
CHAINS = ("entropy_cut", "uniform_cut", "multiple_try")
CHECKED = (*CHAINS, "smc", "tmc", "best_of_n")
KNOWN_ROWS, NEW_ROWS = (1, 8), (4, 16, 32)
AT_ONCE = {"entropy_cut": 8, "uniform_cut": 8, "smc": 1, "best_of_n": 1}
"""Requests that are timed together."""
LONGEST = 12.0
"""log of the tokens after which a proposal is lost, at most."""
NO_LOAD = Load(0.0, 0.0, 0.0)


Prompt = tuple[int, ...]


@dataclass(frozen=True)
class Counted:
    """Runs of one method on some prompts: sums over answers, means where it says so."""

    answers: int
    drawn: int
    free: int
    length: float
    acceptance: float
    remaining: float
    seconds: float

    @property
    def proposed(self) -> int:
        """Tokens of extensions and proposals, known ones included: what is drawn without a memo tree."""
        return self.drawn + self.free


def counted(found: tuple[list[Answer], list[list[Event]]], seconds: float) -> Counted:
    """What some runs counted."""
    answers, events = found
    steps = [event for each in events for event in each if isinstance(event, Stepped)]
    total = sum(answer.usage.steps for answer in answers)
    return Counted(
        len(answers),
        sum(answer.usage.generated_tokens for answer in answers),
        sum(answer.usage.free_tokens for answer in answers),
        statistics.mean(len(answer.trace) for answer in answers),
        sum(answer.usage.accepted for answer in answers) / max(1, total),
        statistics.mean([1 - step.cut / step.length for step in steps]) if steps else 1.0,
        seconds,
    )


def run(engine: TransformersEngine, method: str, prompts: Sequence[Prompt], params: PowerParams) -> Counted:
    """All prompts together."""
    return run_all(engine, {"": (method, prompts, params)})[""]


def run_all(
    engine: TransformersEngine, asked: dict[str, tuple[str, Sequence[Prompt], PowerParams]]
) -> dict[str, Counted]:
    """Several methods on several prompts, all together, so that the model's passes are full; a tree for each chain."""
    events: dict[str, list[list[Event]]] = {name: [] for name in asked}

    def job(name: str, prompt: Prompt, params: PowerParams) -> Job:
        events[name].append([])
        return Job(engine, prompt, params, 11, emit=events[name][-1].append, tree=MemoTree())

    async def together() -> list[list[Answer]]:
        groups = [
            asyncio.gather(*[METHODS[method](job(name, prompt, params)) for prompt in prompts])
            for name, (method, prompts, params) in asked.items()
        ]
        return [list(answers) for answers in await asyncio.gather(*groups)]

    start = time.process_time()
    found = asyncio.run(together())
    seconds = time.process_time() - start
    return {name: counted((answers, events[name]), seconds) for name, answers in zip(asked, found, strict=True)}


def fitted(method: str, params: PowerParams, seen: Counted) -> Behaviour:
    """The behaviour with which the model counts what was counted: `lost_after` is the one that is solved for."""
    free_share = seen.free / max(1, seen.proposed)
    behaviour = Behaviour(seen.length, seen.acceptance, seen.remaining, math.inf, free_share)

    def over(log_after: float) -> float:
        cost = answer_cost(method, params, replace(behaviour, lost_after=math.exp(log_after)))
        return (cost.drawn + cost.free) * seen.answers - seen.proposed

    if method not in CHAINS or not params.early_rejection or over(LONGEST) <= 0:
        return behaviour
    return replace(
        behaviour, lost_after=math.exp(cast(float, brentq(over, -LONGEST, LONGEST))) if over(-LONGEST) < 0 else 0.0
    )


def token_rows(
    engine: TransformersEngine,
    prompts: Sequence[Prompt],
    settings: str,
    params: PowerParams,
    methods: Sequence[str],
    known: dict[str, Behaviour],
    *,
    late: bool,
) -> list[dict[str, Any]]:
    """Predicted ÷ counted on the prompts of odd number; factors are fitted on the others unless they are known."""
    chosen = {
        f"{method}{'' if early else ', no early rejection'}": (method, replace(params, early_rejection=early))
        for method in methods
        for early in ((True, False) if late and method in CHAINS else (True,))
    }
    asked = {name: (method, prompts[1::2], each) for name, (method, each) in chosen.items()}
    asked |= {f"fit {name}": (*chosen[name][:1], prompts[::2], chosen[name][1]) for name in chosen.keys() - known}
    seen = run_all(engine, asked)
    for name, (method, each) in chosen.items():
        if name not in known:
            known[name] = fitted(method, each, seen[f"fit {name}"])
    return [
        row
        for name, (method, each) in chosen.items()
        for row in compared(settings, name, method, each, known[name], seen[name])
    ]


def compared(
    settings: str, name: str, method: str, params: PowerParams, known: Behaviour, test: Counted
) -> list[dict[str, Any]]:
    """Predicted ÷ counted, with the memo tree and without. `known` is what other prompts told."""
    told = replace(known, answer_tokens=test.length, acceptance=test.acceptance, remaining=test.remaining)
    rows: list[dict[str, Any]] = []
    for tree, count in ((True, test.drawn), (False, test.proposed)):
        asked = replace(params, memo_tree=tree)
        blind, given = (answer_cost(method, asked, each).drawn * test.answers / count for each in (known, told))
        row = {
            "settings": settings,
            "method": name + ("" if tree else ", no memo tree"),
            "counted": count / test.answers,
            "worst": answer_cost(method, asked, told).worst,
            "blind": blind,
            "given": given,
            "factors": asdict(known),
            "test": asdict(test),
        }
        rows.append(row)
        tokens = f"{row['counted']:.0f} | {row['worst']:.0f}"
        print(f"| {settings} | {row['method']} | {tokens} | {blind:.2f} | {given:.2f} |", flush=True)
    return rows


def step_of(engine: TransformersEngine, number: int, tokens: int) -> MeasuredStep:
    """The seconds of a step from runs of 1 row and of 8."""
    few, many = (rows / decode_rate(engine, rows, tokens, number, time.process_time) for rows in KNOWN_ROWS)
    row_s = max(0.0, (many - few) / (KNOWN_ROWS[1] - KNOWN_ROWS[0]))
    return MeasuredStep(few - row_s, row_s, row_s)  # on a CPU a position costs what a row does


def time_rows(
    engine: TransformersEngine,
    prompts: Sequence[Prompt],
    known: dict[str, Behaviour],
    rounds: int,
    others: Sequence[int],
) -> list[dict[str, Any]]:
    """Predicted ÷ measured: tokens per second at other numbers of rows, requests per second of methods."""
    ratios: dict[str, list[float]] = {}
    for rows in (*KNOWN_ROWS, *others):
        decode_rate(engine, rows, 4, 0)  # warm up
    for number in range(rounds):
        step = step_of(engine, number, 32)
        for rows in others:
            predicted = rows / step.seconds(rows, NO_LOAD)
            measured = decode_rate(engine, rows, 32, number, time.process_time)
            ratios.setdefault(f"tokens/s, {rows} rows", []).append(predicted / measured)
        for method, count in ((name, each) for name, each in AT_ONCE.items() if name in known):
            asked = [prompts[(i + number) % len(prompts)] for i in range(count)]
            cost = answer_cost(method, BASE, known[method])
            computed = (statistics.mean(map(len, asked)) + cost.calls) / cost.drawn  # and each call's last position
            load = Load(0.0, 0.0, computed)
            predicted = count / (cost.depth * step.seconds(count * cost.width, load))
            seen = run(engine, method, asked, BASE)
            ratios.setdefault(f"requests/s, {method}, {count} at once", []).append(predicted * seen.seconds / count)
    found = [{"figure": name, "median": statistics.median(each), "ratios": each} for name, each in ratios.items()]
    for row in found:
        low, high = min(row["ratios"]), max(row["ratios"])
        print(f"| {row['figure']} | {row['median']:.2f} | {low:.2f}–{high:.2f} |", flush=True)
    return found


def checkpoint_bytes(engine: TransformersEngine, prompt: tuple[int, ...]) -> float:
    """Bytes of a packed checkpoint for each token of its trace."""
    sizes: list[float] = []

    def keep(state: Any) -> None:
        sizes.append(len(pack(to_plain({0: SavedAnswer(state, ())}))) / max(1, len(state.ids)))

    job = Job(engine, prompt, replace(BASE, max_tokens=64, steps_per_block=2), 3, checkpoint=keep)
    asyncio.run(METHODS["entropy_cut"](job))
    return statistics.mean(sizes)


def main() -> None:
    """The parts that are asked for, to a table and a file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plan", description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["tokens", "other", "times"], help="of tokens, other, times")
    parser.add_argument("--methods", nargs="+", default=list(CHECKED), help="whose tokens are predicted")
    parser.add_argument("--no-late", action="store_true", help="leave out chains without early rejection")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", type=int, default=NEW_ROWS, help="at once, whose rates are predicted")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--output", type=Path, default=Path("plan.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine = load_engine("transformers", EngineOptions(dtype=options.dtype, max_rows=64, kv_cache_bytes=1 << 30))
    assert isinstance(engine, TransformersEngine)
    prompts = [tuple(engine.tokenizer.encode(text)) for text in LONG_PROMPTS[: options.prompts]]
    known: dict[str, Behaviour] = {}
    found: dict[str, Any] = {"settings": {name: str(value) for name, value in vars(options).items()}}
    if "tokens" in options.parts:
        print(
            "| settings | method | tokens counted | at worst | predicted ÷ counted, blind | given what /metrics tells |"
        )
        print("|---|---|---|---|---|---|", flush=True)
        late = not options.no_late
        found["tokens"] = token_rows(engine, prompts, "4 × 4 steps, 32 tokens", BASE, options.methods, known, late=late)
    if "other" in options.parts:
        other = [name for name in options.methods if name == "entropy_cut"]
        found["other"] = token_rows(engine, prompts, "2 × 8 steps, 48 tokens", OTHER, other, known, late=False)
    if "times" in options.parts:
        print("\n| figure | predicted ÷ measured, median | range |\n|---|---|---|", flush=True)
        found["times"] = time_rows(engine, prompts, known, options.rounds, options.rows)
        found["checkpoint_bytes"] = checkpoint_bytes(engine, prompts[1])
        print(f"\ncheckpoint: {found['checkpoint_bytes']:.1f} bytes a token")
    found |= {"factors": {name: asdict(each) for name, each in known.items()}, "machine": machine()}
    options.output.write_text(json.dumps(found, indent=1))
    print(f"{machine()}\nwritten to {options.output}", file=sys.stderr)
    asyncio.run(engine.aclose())


if __name__ == "__main__":
    main()
