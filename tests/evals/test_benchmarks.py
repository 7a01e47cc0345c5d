"""Benchmarks on their own data: gold answers are right, perturbed ones wrong, and nothing of GPQA is shown."""

import asyncio
import csv
import hashlib
import io
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from evals.benchmarks import BENCHMARKS
from evals.benchmarks.gpqa import GPQA, LETTERS, RIGHT, WRONG, Gpqa, option_order
from evals.benchmarks.humaneval import program
from evals.errors import DataMismatch, DataMissing
from evals.grading import Grading
from evals.problem import Problem, Verdict
from evals.sandbox import Limits
from tests.evals.perturbed import broken, perturbed

FOLDER = Path(__file__).parents[2] / "evals" / "benchmarks"
BUSY = Limits(wall_s=120.0, cpu_s=20)
"""For counts that must come out whole on a machine that does other things."""


def test_every_benchmark_is_one_file_and_one_registry_line_each() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert {type(benchmark).__module__.rsplit(".", 1)[1] for benchmark in BENCHMARKS.values()} == files
    assert all(name == benchmark.name == benchmark.source.benchmark for name, benchmark in BENCHMARKS.items())


def test_the_papers_settings() -> None:
    told = {name: (each.defaults.paper_max_tokens, each.defaults.alpha) for name, each in BENCHMARKS.items()}
    assert told["math500"] == (3072, 4.0)
    assert told["humaneval"] == (3072, 5.0)
    assert told["gpqa"] == told["aime26"] == (6144, 4.0)


async def count(problems: Sequence[Problem], grade: Callable[[Problem], Awaitable[Verdict]]) -> Counter[str]:
    """How many verdicts of each kind, with the paper-compatible grader's in the same word where it agrees."""
    verdicts = await asyncio.gather(*map(grade, problems))
    return Counter(verdict.status for verdict in verdicts)


async def grade_boxed(
    name: str, problems: Sequence[Problem], made: Callable[[str], str], grading: Grading
) -> Counter[str]:
    benchmark = BENCHMARKS[name]

    async def grade(problem: Problem) -> Verdict:
        prompt = benchmark.prompt(problem, "paper", 0)
        text = f"As \\boxed{{0}} cannot be, it is $\\boxed{{{made(problem.answer)}}}$."
        return await benchmark.grade(problem, prompt, text, grading)

    return await count(problems, grade)


@pytest.fixture
async def patient() -> AsyncIterator[Grading]:
    async with Grading(concurrency=1, maths_limit_s=60.0, limits=BUSY) as owned:
        yield owned


@pytest.mark.parametrize("name", ["aime24", "aime25", "aime26"])
async def test_aime_gold_answers_are_right_and_others_wrong(data_folder: Path, name: str, patient: Grading) -> None:
    problems = BENCHMARKS[name].load(data_folder).problems
    assert len({problem.id for problem in problems}) == 30
    assert await grade_boxed(name, problems, lambda gold: gold, patient) == {"correct": 30}
    assert await grade_boxed(name, problems, lambda gold: gold.zfill(3), patient) == {"correct": 30}
    for made in (perturbed, lambda gold: f"{gold}0", lambda gold: f"-{int(gold) or 1}", lambda gold: f"{gold}.5"):
        assert await grade_boxed(name, problems, made, patient) == {"incorrect": 30}


@pytest.mark.slow
async def test_some_math500_answers_are_right_and_perturbed_ones_wrong(data_folder: Path, patient: Grading) -> None:
    problems = BENCHMARKS["math500"].load(data_folder).problems[::25]
    assert await grade_boxed("math500", problems, lambda gold: gold, patient) == {"correct": 20}
    assert await grade_boxed("math500", problems, perturbed, patient) == {"incorrect": 20}


@pytest.mark.long
async def test_all_math500_answers_are_right_and_perturbed_ones_wrong(data_folder: Path, patient: Grading) -> None:
    problems = BENCHMARKS["math500"].load(data_folder).problems
    assert await grade_boxed("math500", problems, lambda gold: gold, patient) == {"correct": 500}
    assert await grade_boxed("math500", problems, perturbed, patient) == {"incorrect": 500}


@pytest.mark.long
async def test_the_paper_compatible_rules_agree_on_math500(data_folder: Path) -> None:
    problems, benchmark = BENCHMARKS["math500"].load(data_folder).problems, BENCHMARKS["math500"]
    async with Grading(maths_limit_s=60.0) as grading:
        for made, wanted in ((str, True), (perturbed, False)):
            for problem in problems:
                prompt = benchmark.prompt(problem, "paper", 0)
                verdict = await benchmark.grade(problem, prompt, f"\\boxed{{{made(problem.answer)}}}", grading)
                assert verdict.others == {"paper": wanted}, problem.id


async def grade_humaneval(problems: Sequence[Problem], style: str) -> Counter[str]:
    """The canonical solutions as a base model would continue, or as a chat would reply."""
    benchmark = BENCHMARKS["humaneval"]
    async with Grading(limits=BUSY) as grading:

        async def grade(problem: Problem) -> Verdict:
            if style == "paper":
                prompt = benchmark.prompt(problem, "paper", 0)
                text = problem.answer + "\n\ndef another():\n    pass\n\nprint(another())\n"
            else:
                prompt = benchmark.prompt(problem, "chat", 0)
                text = f"Here it is:\n\n```python\n{problem.question}{problem.answer}```\nIt calls nothing else."
            return await benchmark.grade(problem, prompt, text, grading)

        return await count(problems, grade)


async def check_broken(problems: Sequence[Problem]) -> Counter[str]:
    async with Grading(limits=BUSY) as grading:

        async def check(problem: Problem) -> str:
            spoiled = broken(problem.question + problem.answer, problem.extra["entry_point"])
            outcome = await grading.check(program(problem, spoiled))
            return f"{outcome.status}: {outcome.detail.split(' (')[0]}"

        return Counter(await asyncio.gather(*map(check, problems)))


UNTRUE = "rejected: an assertion of the tests does not hold"


@pytest.mark.slow
@pytest.mark.usefixtures("bubblewrap")
async def test_some_canonical_solutions_pass_and_broken_ones_fail(data_folder: Path) -> None:
    problems = BENCHMARKS["humaneval"].load(data_folder).problems
    # Among them the three whose tests use helpers of the stub.
    some = [*problems[::8], problems[38], problems[50]]
    assert await grade_humaneval(some, "paper") == {"correct": 23}
    assert await grade_humaneval(some[::3], "chat") == {"correct": 8}
    assert await check_broken(some) == {UNTRUE: 23}


@pytest.mark.long
@pytest.mark.usefixtures("bubblewrap")
async def test_all_canonical_solutions_pass_and_broken_ones_fail(data_folder: Path) -> None:
    problems = BENCHMARKS["humaneval"].load(data_folder).problems
    assert await grade_humaneval(problems, "paper") == {"correct": 164}
    assert await grade_humaneval(problems, "chat") == {"correct": 164}
    assert await check_broken(problems) == {UNTRUE: 164}


@pytest.mark.slow
@pytest.mark.usefixtures("bubblewrap")
async def test_an_answer_without_code_is_wrong_and_not_a_failure(data_folder: Path) -> None:
    benchmark, problem = BENCHMARKS["humaneval"], BENCHMARKS["humaneval"].load(data_folder).problems[0]
    async with Grading(limits=BUSY) as grading:
        for style in ("paper", "chat"):
            prompt = benchmark.prompt(problem, style, 0)
            for text in ("", "I cannot.", "```", "\udcff\0", "    return True\n" + "    x = 1\n" * 20_000):
                assert (await benchmark.grade(problem, prompt, text, grading)).status == "incorrect"


# --- GPQA, on made-up questions in its columns


SECRET_WORDS = "zyxomma and quorbit"


def made_up(folder: Path) -> Gpqa:
    """A benchmark whose pinned file is one of three made-up questions."""
    rows = [
        {
            "Record ID": f"rec{number}",
            "Question": f"How many {SECRET_WORDS} are {number} and {number}?",
            RIGHT: f"{2 * number} {SECRET_WORDS}\n",
            **{name: f"{2 * number + place + 1} {SECRET_WORDS}" for place, name in enumerate(WRONG)},
            "High-level domain": "Arithmetic",
            "Subdomain": "Sums",
        }
        for number in (1, 2, 3)
    ]
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    raw = out.getvalue().encode()
    (folder / "gpqa_diamond.csv").write_bytes(raw)
    return Gpqa(source=replace(GPQA.source, sha256=hashlib.sha256(raw).hexdigest()))


async def test_gpqa_gold_letters_are_right_and_others_wrong(tmp_path: Path, grading: Grading) -> None:
    benchmark = made_up(tmp_path)
    for problem in benchmark.load(tmp_path).problems:
        for seed in range(20):
            prompt = benchmark.prompt(problem, "paper", seed)
            assert f"{prompt.gold}) {problem.answer}" in (prompt.text or "").splitlines()
            for letter in LETTERS:
                verdict = await benchmark.grade(problem, prompt, f"A guess. \\boxed{{{letter}}}", grading)
                wanted = "correct" if letter == prompt.gold else "incorrect"
                assert (verdict.status, verdict.extracted, verdict.others["paper"]) == (
                    wanted,
                    letter,
                    letter == prompt.gold,
                )


def test_gpqa_options_depend_on_seed_and_question_and_are_recorded(tmp_path: Path) -> None:
    benchmark = made_up(tmp_path)
    first, second, _ = benchmark.load(tmp_path).problems
    prompt = benchmark.prompt(first, "chat", 7)
    assert prompt.record == {"options": option_order(first.id, 7), "options_seed": 7}
    assert prompt == benchmark.prompt(first, "chat", 7)
    orders = {option_order(first.id, seed) for seed in range(500)}
    assert len(orders) == 24
    assert any(option_order(first.id, seed) != option_order(second.id, seed) for seed in range(5))
    golds = Counter(benchmark.prompt(first, "paper", seed).gold for seed in range(4000))
    assert all(900 < golds[letter] < 1100 for letter in LETTERS)  # within 3.7 standard deviations


async def test_gpqa_text_is_shown_nowhere(
    tmp_path: Path, grading: Grading, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    benchmark = made_up(tmp_path)
    data = benchmark.load(tmp_path)
    shown = [repr(data), str(data)]
    for problem in data.problems:
        prompt = benchmark.prompt(problem, "paper", 0)
        verdict = await benchmark.grade(problem, prompt, "\\boxed{A}", grading)
        shown += [repr(problem), repr(prompt), f"{prompt.record}", repr(verdict)]
    with pytest.raises(KeyError) as caught:
        data.problems[0].extra["nothing"]
    shown += [repr(caught.value), caplog.text, *capsys.readouterr()]
    assert not any(word in text for text in shown for word in SECRET_WORDS.split())


def test_gpqa_that_is_not_the_pinned_file_is_refused(tmp_path: Path) -> None:
    made_up(tmp_path)
    with pytest.raises(DataMismatch, match=r"41d1213cd7a4.*refused"):
        GPQA.load(tmp_path)
    with pytest.raises(DataMissing, match="powercut-eval data fetch gpqa"):
        GPQA.load(tmp_path / "nowhere")
