"""The numbers behind the pictures of the docs, all computed by powercut itself.

Two of them are exact laws of small tables, by the enumeration of the test suite; the others are chains of the default
model on the CPU in float32, with a seed.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sampler.answer import Answer
from sampler.engine import Engine, EngineOptions, load_engine
from sampler.events import Event, Stepped
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.tree import MemoTree
from tests.exact.enumeration import Case, Space, StagedChain, total_variation
from tests.exact.models import plan_or_guess, random_engine

Json = dict[str, Any]
MODELS = 24
STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200)
CUTS = ("entropy", "uniform")
PROMPT = "The most important thing to know about the ocean is that"
CHAIN = PowerParams(max_tokens=32, blocks=4, steps_per_block=8, prefetch=False)
SEED, CHAINS = 3, 4
SAVINGS = {
    "plain": {"early_rejection": False, "memo_tree": False},
    "early rejection": {"early_rejection": True, "memo_tree": False},
    "early rejection and memo tree": {"early_rejection": True, "memo_tree": True},
}


def plan_or_guess_laws(alpha: float = 4.0) -> Json:
    """Of each answer of the plan-or-guess table: p, q (token by token at temperature 1/α), and the power law."""
    engine = plan_or_guess()
    space = Space(Case(engine, PowerParams(4, alpha, blocks=1, top_k=None)), 4)
    order = sorted(range(len(space.traces)), key=lambda i: space.traces[i].ids)
    return {
        "alpha": alpha,
        "answers": [engine.tokenizer.response_bytes(space.traces[i].ids).decode() for i in order],
        "p": [math.exp(space.traces[i].log_p.sum()) for i in order],
        "q": [float(space.q_suffix[i][0]) for i in order],
        "pi": [float(space.target[i]) for i in order],
    }


def distances(cut: str, models: Sequence[int]) -> list[list[float]]:
    """Of each random model the distance (total variation) of the answer's law to p^α after each number of STEPS."""
    found: list[list[float]] = []
    for seed in models:
        staged = StagedChain(Case(random_engine(seed, 6), PowerParams(6, blocks=3, top_k=None), cut), verify=False)
        found.append([total_variation(staged.law(steps), staged.last.target) for steps in STEPS])
    return found


async def run_chain(engine: Engine, params: PowerParams, chain: int = 0) -> tuple[Answer, list[Event]]:
    """One chain on the prompt, and what it told."""
    events: list[Event] = []
    ids = tuple(engine.tokenizer.encode(PROMPT))
    job = Job(engine, ids, params, SEED, chain, emit=events.append, tree=MemoTree())
    return await METHODS["entropy_cut"](job), events


async def chain_figures(engine: Engine) -> Json:
    """What the pictures of chains show."""
    chains = await asyncio.gather(*(run_chain(engine, CHAIN, chain) for chain in range(CHAINS)))
    answer, events = chains[0]
    return {
        "prompt": PROMPT,
        "alpha": CHAIN.alpha,
        "tokens": [engine.tokenizer.response_bytes([token]).decode(errors="replace") for token in answer.trace.ids],
        "entropy": [round(float(value), 6) for value in answer.trace.entropy],
        "steps": [step_figures(event) for event in events if isinstance(event, Stepped)],
        "log_pi": [
            [round(CHAIN.alpha * event.log_p, 6) for event in events if isinstance(event, Stepped)]
            for _, events in chains
        ],
        "drawn": {name: await tokens_drawn(engine, switches) for name, switches in SAVINGS.items()},
    }


def step_figures(event: Stepped) -> Json:
    """One step: where it cut, how many tokens it proposed, and what became of it."""
    fate = "early" if event.rejected_early else "moved" if event.moved else "same" if event.accepted else "rejected"
    return {"stage": event.stage, "cut": event.cut, "proposed": len(event.proposal), "fate": fate}


async def tokens_drawn(engine: Engine, switches: dict[str, bool]) -> list[int]:
    """Tokens that the engine had drawn after each step of the same chain, with some savings on or off."""
    _, events = await run_chain(engine, replace(CHAIN, **switches))
    return [event.generated_tokens for event in events if isinstance(event, Stepped)]


async def on_the_default_model() -> Json:
    """The chains' numbers on SmolLM2-135M-Instruct."""
    engine = load_engine("transformers", EngineOptions(dtype="fp32", device="cpu"))
    try:
        return await chain_figures(engine)
    finally:
        await engine.aclose()


def all_figures() -> Json:
    """Everything that is drawn."""
    return {
        "laws": plan_or_guess_laws(),
        "steps": list(STEPS),
        "distances": {cut: distances(cut, range(MODELS)) for cut in CUTS},
        "chain": asyncio.run(on_the_default_model()),
    }
