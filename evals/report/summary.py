"""The report as plain data: every number with what it estimates, how, and from how many answers.

Of a call that failed, and of an answer that could not be graded, nobody knows whether it would have been right. Lower
bounds count both as wrong and upper bounds as right; the accuracy leaves failed calls out and says how many there were.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.errors import OptionError
from evals.report.published import Published
from evals.report.tables import ArmTable, natural, number_at, right
from evals.settings import versions
from evals.statistics import bounds, paired
from evals.statistics.bounds import Side
from evals.statistics.resampling import Estimate, cluster_mean, pass_curve, ratio_of_sums

POPULATION = "problem_population"
FIXED = "fixed_benchmark"
CAVEATS = (
    "problem_population takes the problems as independent draws from those one cares about; contests drift from year "
    "to year, and problems seen in training break it.",
    "fixed_benchmark is about these exact problems: what is random is the sampling alone.",
    "Bounds take the grader's verdict for the truth.",
    "Best-of-several bounds must count every configuration that was tried on these problems, also unreported ones.",
)


@dataclass(frozen=True, slots=True)
class Level:
    """How sure the report's intervals are, and where the bootstrap's randomness comes from.

    Attributes:
        delta: Chance that an interval fails.
        tried: Configurations tried on these problems; None: the arms shown.
        seed: Of the bootstrap.
    """

    delta: float = 0.05
    tried: int | None = None
    seed: int = 0


def summarise(
    groups: Mapping[Any, list[ArmTable]],
    level: Level,
    reference: str | None = None,
    published: Sequence[Published] = (),
) -> dict[str, Any]:
    """Groups of arms (`evals.report.tables.grouped`), benchmark by benchmark."""
    names = [table.label for tables in groups.values() for table in tables]
    if reference is not None and reference not in names:
        raise OptionError(f"--reference: there is no arm {reference!r}; the arms are {', '.join(names)}")
    return {
        "versions": versions(None),
        "delta": level.delta,
        "bootstrap_seed": level.seed,
        "caveats": list(CAVEATS),
        "benchmarks": [section(tables, level, reference, published) for tables in groups.values()],
    }


def section(
    tables: list[ArmTable], level: Level, reference: str | None, published: Sequence[Published]
) -> dict[str, Any]:
    """All arms on one benchmark."""
    settings = tables[0].settings
    tried = level.tried or len(tables)
    if tried < len(tables):
        raise OptionError(f"--tried: {len(tables)} configurations are shown, so at least as many were tried")
    rng = np.random.default_rng(level.seed)
    first = next((table for table in tables if table.label == reference), default_reference(tables))
    return {
        "benchmark": settings["benchmark"],
        "data": {name: settings[f"data_{name}"] for name in ("sha256", "source", "revision")},
        "configurations_tried": tried,
        "arms": [arm_summary(table, level.delta, tried, rng) for table in tables],
        "reference": first.label,
        "pairs": [pair_summary(first, table, level.delta, rng) for table in tables if table is not first],
        "grid": grid(tables),
        "published": [each.plain() for each in published if each.benchmark == settings["benchmark"]],
    }


def default_reference(tables: Sequence[ArmTable]) -> ArmTable:
    """The run's own reference arm, or the first arm."""
    named = (table for table in tables if table.spec["name"] == table.settings["reference"])
    return next(named, tables[0])


def arm_summary(table: ArmTable, delta: float, tried: int, rng: np.random.Generator) -> dict[str, Any]:
    """Everything about one arm."""
    counts = table.counts()
    settings = table.settings
    shared = {name: settings[name] for name in ("max_tokens", "prompt_style", "template_sha256", "seed", "repeats")}
    return {
        "label": table.label,
        "folder": table.folder,
        "arm": dict(table.spec),
        **shared,
        "graders": table.tally("verdict", "grader"),
        "wanted": table.wanted,
        "answers": len(table.answers),
        "failed_calls": table.failures,
        "ungraded": table.ungraded,
        "not_yet_asked": table.wanted - len(table.records),
        "problems": len(counts),
        "correct": sum(correct for _, correct in counts),
        "accuracy": estimate(cluster_mean([c / n for n, c in counts], rng, delta) if counts else NOTHING),
        "bounds": bounds_of(table, delta, tried),
        "pass_at_k": {str(k): estimate(found) for k, found in curve(counts, rng, delta).items()},
        "cost": cost(table, delta, rng),
        "chain": chain(table, delta, rng),
        "log_p": {
            "text": mean_of(table, "log_p", delta, rng),
            "answer": mean_of(table, "chain.log_p", delta, rng),
            "texts": [value for each in table.answers.values() if (value := number_at(each, "log_p")) is not None],
        },
        "finish_reason": table.tally("finish_reason"),
        "ended_by": table.tally("chain", "ended_by"),
        "graders_differ": graders_differ(table),
        "seconds": {
            part: mean_of(table, f"timings.{part}_s", delta, rng) for part in ("server", "waited", "grade", "harness")
        },
    }


NOTHING = Estimate(math.nan, math.nan, math.nan)


def curve(counts: Sequence[tuple[int, int]], rng: np.random.Generator, delta: float) -> dict[int, Estimate]:
    """Unbiased pass@k for every k that all problems have answers for."""
    return pass_curve([n for n, _ in counts], [c for _, c in counts], rng, delta)


def estimate(found: Estimate) -> dict[str, float | None]:
    """An estimate as JSON, which knows no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in found._asdict().items()}


def mean_of(table: ArmTable, name: str, delta: float, rng: np.random.Generator) -> dict[str, float | None] | None:
    """The mean over problems of a number, None where no answer has it."""
    values = table.means(name)
    return estimate(cluster_mean(values, rng, delta)) if len(values) else None


def cost(table: ArmTable, delta: float, rng: np.random.Generator) -> dict[str, Any]:
    """Tokens an answer: drawn, in the answer, and drawn ÷ budget where there was one."""
    spent = [(each["tokens"]["generated"], each["budget_tokens"]) for each in table.answers.values()]
    known = [(generated, budget) for generated, budget in spent if generated is not None and budget]
    return {
        "generated_tokens": mean_of(table, "tokens.generated", delta, rng),
        "completion_tokens": mean_of(table, "tokens.completion", delta, rng),
        "total_generated_tokens": sum(generated or 0 for generated, _ in spent),
        "of_budget": sum(g for g, _ in known) / sum(b for _, b in known) if known else None,
        "over_budget_answers": sum(g > b for g, b in known) if known else None,
    }


def chain(table: ArmTable, delta: float, rng: np.random.Generator) -> dict[str, Any] | None:
    """Acceptance and moves of the Metropolis–Hastings steps, None for methods without steps."""
    steps = table.sums("power.steps")
    if not steps.sum():
        return None
    shares = {name: ratio_of_sums(table.sums(f"power.{name}"), steps, rng, delta) for name in ("accepted", "moved")}
    return {"steps": int(steps.sum()), "acceptance": estimate(shares["accepted"]), "moved": estimate(shares["moved"])}


def graders_differ(table: ArmTable) -> dict[str, int]:
    """How many answers each other grader sees otherwise than the one that decides."""
    found: dict[str, int] = {}
    for each in table.answers.values():
        for name, correct in each["verdict"]["others"].items():
            found[name] = found.get(name, 0) + (correct != right(each))
    return found


def bounds_of(table: ArmTable, delta: float, tried: int) -> list[dict[str, Any]]:
    """Bounds on the accuracy, each with its estimand and its method; all of them are proved to hold."""
    if not table.problems:
        return []
    found = [population_bound(table, delta, 1, Side.TWO_SIDED), population_bound(table, delta, 1, Side.LOWER)]
    if tried > 1:
        found.append(population_bound(table, delta, tried, Side.LOWER))
    if table.settings["repeats"] > 1:
        found.append(means_bound(table, delta))
    return [*found, fixed_bound(table, delta)]


def population_bound(table: ArmTable, delta: float, tried: int, side: Side) -> dict[str, Any]:
    """Binomial tail on one answer a problem, the first repeat's: chosen before any was seen."""
    records = [table.records[problem, 0] for problem in table.problems if (problem, 0) in table.records]
    low, high = least_and_most(records)
    spent = bounds.union_delta(delta, tried)
    return bound(POPULATION, "binomial_tail", side, tried, low, high, len(records), spent)


def fixed_bound(table: ArmTable, delta: float) -> dict[str, Any]:
    """All answers to these exact problems: pooled where each has equally many, else Hoeffding's."""
    low, high = least_and_most(list(table.records.values()))
    counts = [
        sum((problem, r) in table.records for r in range(table.settings["repeats"])) for problem in table.problems
    ]
    if len(set(counts)) == 1:
        return bound(FIXED, "binomial_tail_fixed", Side.TWO_SIDED, 1, low, high, len(table.records), delta)
    ends = [bounds.hoeffding_means(means, counts, delta) for means in problem_means(table)]
    return described(FIXED, "hoeffding_means", Side.TWO_SIDED, 1, ends[0].lower, ends[1].upper)


def means_bound(table: ArmTable, delta: float) -> dict[str, Any]:
    """Chernoff-kl on the problems' solve rates, of which pooling all answers would make too much."""
    ends = [bounds.chernoff_kl(float(np.mean(means)), len(means), delta) for means in problem_means(table)]
    return described(POPULATION, "chernoff_kl", Side.TWO_SIDED, 1, ends[0].lower, ends[1].upper)


def problem_means(table: ArmTable) -> tuple[list[float], list[float]]:
    """Each problem's solve rate with the unknown answers counted as wrong, and as right."""
    least: list[float] = []
    most: list[float] = []
    for records in table.records_by_problem.values():
        low, high = least_and_most(records)
        least.append(low / len(records))
        most.append(high / len(records))
    return least, most


def least_and_most(records: Sequence[Any]) -> tuple[int, int]:
    """Right answers if the unknown ones were all wrong, and if they were all right."""
    verdicts = [each["verdict"]["status"] if each["status"] == "answered" else "failed" for each in records]
    correct = verdicts.count("correct")
    return correct, correct + verdicts.count("failed")


def bound(
    estimand: str, method: str, side: Side, tried: int, low: int, high: int, total: int, delta: float
) -> dict[str, Any]:
    """A bound from counts, the lower end from the least and the upper end from the most."""
    if not total:
        return described(estimand, method, side, tried, 0.0, 1.0) | {"correct": 0, "total": 0}
    compute = bounds.binomial_tail if method == "binomial_tail" else bounds.binomial_tail_fixed
    lower, upper = compute(low, total, delta, side).lower, compute(high, total, delta, side).upper
    return described(estimand, method, side, tried, lower, upper) | {"correct": low, "total": total}


def described(estimand: str, method: str, side: Side, tried: int, lower: float, upper: float) -> dict[str, Any]:
    """A bound as JSON."""
    ends = {"lower": lower, "upper": upper}
    return {"estimand": estimand, "method": method, "side": str(side), "configurations_tried": tried, **ends}


def pair_summary(first: ArmTable, second: ArmTable, delta: float, rng: np.random.Generator) -> dict[str, Any]:
    """Two arms on the answers that both have: the same problems, repeats and seeds."""
    shared = sorted(first.answers.keys() & second.answers.keys())
    differences: dict[str, list[int]] = {}
    for key in shared:
        difference = int(right(first.answers[key])) - int(right(second.answers[key]))
        differences.setdefault(key[0], []).append(difference)
    means = [float(np.mean(each)) for each in differences.values()]
    return {
        "first": first.label,
        "second": second.label,
        "answers": len(shared),
        "problems": len(differences),
        "difference": estimate(cluster_mean(means, rng, delta) if means else NOTHING),
        **paired.compare([sum(each) for each in differences.values()])._asdict(),
    }


def grid(tables: Sequence[ArmTable]) -> dict[str, dict[str, float | None]]:
    """Problem → arm → share of right answers, None without an answer."""
    problems = sorted({p for table in tables for p in table.problems}, key=natural)
    return {problem: {table.label: table.rate(problem) for table in tables} for problem in problems}
