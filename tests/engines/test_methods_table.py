"""Which method finds the likelier answers for the same tokens: SmolLM2, the same prompts, seeds and budget for all."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from sampler.answer import Answer
from sampler.engines.transformers.engine import TransformersEngine
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from tests.engines.test_same_tokens import LONG_PROMPTS

PROMPTS = [
    *LONG_PROMPTS,
    "Question: what is 9 times 7? Answer:",
    "The chemical symbol for gold is",
    "def is_even(n):\n    ",
    "Roses are red, violets are",
    "The longest river in Africa is",
    "A triangle with three equal sides is called",
    "Shopping list:\n- milk\n- eggs\n-",
    "To be, or not to be, that is",
    "The days of the week are Monday,",
    "Q: How many legs does a spider have? A:",
    "class Stack:\n    def __init__(self):\n        ",
    "The first president of the United States was",
    "Ice is lighter than water because",
    "Thank you for your letter of",
    "If x + 3 = 10, then x =",
    "The human heart has",
    "SELECT name FROM users WHERE",
    "My favourite book is",
    "In winter, many birds",
    "The German word for house is",
    "while True:\n    try:\n        ",
    "Half of one hundred is",
    "The moon goes around the",
    "He opened the door and saw",
]
TOKENS = 64
CHAIN = PowerParams(TOKENS, blocks=4, steps_per_block=5, prefetch=False)
POWER = ("uniform_cut", "entropy_cut", "multiple_try", "smc", "tmc")
ROWS = ("standard", "low_temperature", "best_of_n", *POWER)


class Cell(NamedTuple):
    """One prompt's answer by one method."""

    log_p: float
    tokens: int
    length: int


def shares(chain: PowerParams, first: Answer) -> dict[str, PowerParams]:
    """What each method is asked for, so that it costs about as many tokens as the entropy-cut chain `first` did.

    A chain with several tries has fewer steps; systems have as many particles or candidates as the budget has answers
    of the chain's length. None is cut off at the budget, since a shorter answer would look the likelier; only best of
    n, which draws whole answers until the budget is crossed, can be matched exactly.
    """
    budget = max(1, first.usage.generated_tokens)
    answers = max(1, round(budget / len(first.trace)))
    rolled = sum(chain.max_tokens - horizon for horizon in chain.horizons) / chain.max_tokens
    return {
        "low_temperature": chain,
        "uniform_cut": chain,
        "multiple_try": replace(chain, tries=4, steps_per_block=2),
        "best_of_n": replace(chain, max_generated_tokens=budget),
        "smc": replace(chain, particles=answers),
        "tmc": replace(chain, candidates=max(1, round(answers / (1 + rolled))), rollouts=1),
    }


async def row_of(engine: TransformersEngine, chain: PowerParams, prompt: str, seed: int) -> dict[str, Cell]:
    """All methods on one prompt; the entropy-cut chain sets the budget."""
    ids = tuple(engine.tokenizer.encode(prompt))

    async def ask(method: str, params: PowerParams | PlainParams) -> Answer:
        return await METHODS[method](Job(engine, ids, params, seed))

    first = await ask("entropy_cut", chain)
    asked = shares(chain, first)
    others = [
        ask("standard", PlainParams(chain.max_tokens, top_k=chain.top_k)),
        *(ask(*each) for each in asked.items()),
    ]
    answers = [first, *await asyncio.gather(*others)]
    return {
        answer.method: Cell(float(answer.trace.log_p.sum()), answer.usage.generated_tokens, len(answer.trace))
        for answer in answers
    }


def measure(
    engine: TransformersEngine, prompts: Sequence[str], chain: PowerParams = CHAIN, at_once: int = 4
) -> dict[str, list[Cell]]:
    """Every method on every prompt, a few prompts at a time."""
    room = asyncio.Semaphore(at_once)

    async def one(number: int, prompt: str) -> dict[str, Cell]:
        async with room:
            return await row_of(engine, chain, prompt, 1000 + number)

    async def every() -> list[dict[str, Cell]]:
        return list(await asyncio.gather(*(one(i, prompt) for i, prompt in enumerate(prompts))))

    rows = asyncio.run(every())
    return {method: [row[method] for row in rows] for method in ROWS}


def interval(values: np.ndarray, draws: int = 10_000) -> tuple[float, float, float]:
    """Mean over prompts, with its 95 % bootstrap interval."""
    picks = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def log_p(cells: list[Cell]) -> np.ndarray:
    return np.array([cell.log_p for cell in cells])


def show(table: dict[str, list[Cell]]) -> str:
    """The table as text: Σ log p, its distance from low temperature's on the same prompt, and what it cost."""
    lines = [f"{'method':16} {'mean Σ log p':>26} {'− low temperature':>26} {'tokens drawn':>12} {'length':>7}"]
    for method, cells in table.items():
        own, over = (interval(v) for v in (log_p(cells), log_p(cells) - log_p(table["low_temperature"])))
        columns = [f"{mean:8.2f} [{low:7.2f}, {high:7.2f}]" for mean, low, high in (own, over)]
        drawn, length = (np.mean([cell[i] for cell in cells]) for i in (1, 2))
        lines.append(f"{method:16} {columns[0]:>26} {columns[1]:>26} {drawn:12.0f} {length:7.1f}")
    return "\n".join(lines)


def check_budgets(table: dict[str, list[Cell]]) -> None:
    """Best of n crosses each prompt's budget with its last answer and no earlier."""
    for cell, chain in zip(table["best_of_n"], table["entropy_cut"], strict=True):
        assert cell.tokens < chain.tokens + TOKENS


@pytest.mark.model
def test_all_methods_answer_for_about_the_tokens_of_a_chain(smollm2: TransformersEngine) -> None:
    table = measure(smollm2, PROMPTS[4:6], replace(CHAIN, max_tokens=16, steps_per_block=3))
    print(show(table))
    check_budgets(table)
    assert all(np.isfinite(log_p(cells)).all() for cells in table.values())


@pytest.mark.model
@pytest.mark.long
@pytest.mark.timeout(7200)
def test_power_methods_find_likelier_answers_than_low_temperature_for_the_same_tokens(
    smollm2: TransformersEngine, record_property: Callable[[str, object], None]
) -> None:
    assert len(set(PROMPTS)) >= 40
    table = measure(smollm2, PROMPTS)
    print(f"{len(PROMPTS)} prompts, {TOKENS} tokens, α {CHAIN.alpha}, {CHAIN.blocks} × {CHAIN.steps_per_block} steps")
    print(show(table))
    record_property("table", show(table))
    check_budgets(table)
    drawn = {method: sum(cell.tokens for cell in cells) for method, cells in table.items()}
    assert max(drawn.values()) < 2 * drawn["entropy_cut"], "not the same budget"
    low = log_p(table["low_temperature"])
    assert log_p(table["standard"]).mean() < low.mean()
    for method in POWER:
        assert (log_p(table[method]) - low).mean() > 0, f"{method} is not above low temperature"
    assert interval(log_p(table["entropy_cut"]) - low)[1] > 0
    against_uniform = interval(log_p(table["entropy_cut"]) - log_p(table["uniform_cut"]))
    print("entropy cut − uniform cut", against_uniform)
    assert against_uniform[2] >= 0, "entropy cut is below uniform cut"
