"""What a final answer is and whether it is the gold one: tables of texts, and texts made to take for ever."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from evals.benchmarks.aime import equal_to_released
from evals.graders.boxed import last_boxed
from evals.graders.code import code_blocks, continued, from_chat, released_program
from evals.graders.integer import extract_integer, read_integer
from evals.graders.letter import extract_letter, released_letter
from evals.graders.maths import grade_maths
from evals.graders.released_rules import algebra_allows, as_in_math, as_in_prm800k, equal_by_rules
from evals.graders.workers import WorkerDied, WorkerLate, Workers
from evals.grading import Grading


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1}, no, \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\text{a \} b}}", r"\text{a \} b}"),
        (r"\fbox{3}", "3"),
        (r"\boxed{1} and then \boxed{2", None),
        (r"\boxed 7", None),
        (r"\boxed{}", ""),
        (r"\boxed", None),
        ("nothing", None),
    ],
)
def test_the_last_box(text: str, content: str | None) -> None:
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{C}", "C"),
        (r"\boxed{\text{C}}", "C"),
        (r"\boxed{\textbf{(C)}}", "C"),
        (r"\boxed{$C$}", "C"),
        (r"\boxed{C) 42 J}", "C"),
        (r"\boxed{c}", "C"),
        (r"\boxed{\mathrm{D}}", "D"),
        (r"\boxed{Option B}", "B"),
        (r"\boxed{A} and, on reflection, \boxed{D}", "D"),
        (r"The answer is B. \boxed{D}", "D"),
        (r"\boxed{42 J}", None),
        (r"\boxed{CO_2}", None),
        (r"\boxed{Carbon}", None),
        (r"\boxed{E}", None),
        ("I think the answer is (C).", "C"),
        ("the answer is (c)", "C"),
        ("ANSWER: B", "B"),
        ("ANSWER: B)", "B"),
        ("**Answer: D**", "D"),
        ("Answer: **D**", "D"),
        ("Answer: $A$", "A"),
        ("The correct option is A.", "A"),
        ("Final answer: A", "A"),
        ("Answer: C … no. Answer: D", "D"),
        ("The answer is C because a proton is lighter.", "C"),
        ("So it must be (B), as A and C are excluded.", "B"),
        ("Reasoning.\n\nC", "C"),
        ("Reasoning.\n**C.**\n", "C"),
        ("a", None),
        ("This is a photon.", None),
        ("A photon is a boson, and a gluon too.", None),
        ("The answer is A photon.", None),
        ("The answer is a photon with a spin of 1.", None),
        ("The answer is Dirac's equation.", None),
        ("The answer is Boron", None),
        ("Vitamin C and DNA", None),
        ("", None),
    ],
)
def test_the_letter(text: str, letter: str | None) -> None:
    assert extract_letter(text) == letter


def test_the_released_letter_reads_the_article() -> None:
    assert released_letter("The answer is (C), a photon") == "A"
    assert released_letter(r"\boxed{C}") == "C"
    assert released_letter("nothing") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"\boxed{25}", 25),
        (r"\boxed{025}", 25),
        (r"\boxed{ 25 }", 25),
        (r"\boxed{\text{25}}", 25),
        (r"\boxed{$25$}", 25),
        (r"\boxed{1{,}000}", 1000),
        (r"\boxed{1,\!000}", 1000),
        (r"\boxed{25.0}", 25),
        (r"\boxed{m+n = 25}", 25),
        (r"\boxed{25^\circ}", 25),
        (r"\boxed{-25}", -25),
        (r"\boxed{7} then \boxed{25}", 25),
        ("The answer is 25.", 25),
        ("Answer: **25**", 25),
        ("The answer is $1,025$", 1025),
        (r"\boxed{25.5}", None),
        (r"\boxed{2^5}", None),
        (r"\boxed{25, 26}", None),
        (r"\boxed{1,25}", None),
        (r"\boxed{x}", None),
        (r"The answer is 25. \boxed{x}", None),
        ("The answer is 25/7", None),
        ("The answer is 2.5", None),
        ("and so we are left with 25", None),
        ("", None),
        (r"\boxed{" + "9" * 5000 + "}", None),
        (r"\boxed{٢٥}", 25),
    ],
)
def test_the_integer(text: str, number: int | None) -> None:
    assert extract_integer(text)[0] == number


def test_aime_as_the_released_code_grades_it() -> None:
    assert equal_to_released("25", "25")
    assert equal_to_released("25", "025")
    assert equal_to_released("25", "25.7"), "it truncates"
    assert not equal_to_released("25", "26")
    assert not equal_to_released("25", None)
    for odd in ("inf", "nan", "1e999", "x", ""):
        assert not equal_to_released("25", odd)


@pytest.mark.parametrize(
    ("gold", "given", "equal"),
    [
        (r"\frac{1}{2}", "0.5", True),
        (r"\frac{1}{2}", r"\dfrac12", True),
        (r"\frac{1}{2}", "1/2", True),
        (r"\frac{1}{2}", r"\frac{2}{4}", False),
        ("1,234", "1234", True),
        ("90^\\circ", "90", True),
        ("10\\%", "10", True),
        ("5", "x=5", True),
        ("5", "5.0", True),
        ("5", "10/2", False),
        ("12", r"12 \text{ cm}", True),
        (r"\text{Evelyn}", "evelyn", True),
        ("(1,2)", "[1,2]", False),
        ("(1,2)", "(1,2,3)", False),
        ("(1,2)", "(1, 2)", True),
        (r"\pi", "3.14", None),
        ("x+1", "1+x", None),
        (r"\sqrt{8}", r"2\sqrt{2}", None),
        ("5", None, False),
        ("5", "", False),
    ],
)
def test_the_released_rules(gold: str, given: str | None, equal: bool | None) -> None:
    assert equal_by_rules(gold, given) is equal


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')", "().__class__", "x.real", "a[0]", "exec", "'a'*9", "a_b", "lambda:0", "{1}", "x;y", "abc",
        "\\x", "a\nb", "2^{3}", "2^(3)", "2^3^4", "2^10", "é.d", "1..real", "2.e",
    ],
)  # fmt: skip
def test_algebra_is_given_arithmetic_only(expression: str) -> None:
    assert not algebra_allows(expression)


def test_algebra_is_given_arithmetic() -> None:
    assert all(map(algebra_allows, ("(x+1)-(1+x)", "2sqrt(13)", "3.14", "1/2+.5", "2^3", "xy")))


async def ask_released(workers: Workers, gold: str, given: str) -> bool:
    return (await workers.ask("paper", gold, given))["correct"]


@pytest.mark.slow
async def test_maths_verdicts(grading: Grading) -> None:
    async def status(gold: str, text: str) -> tuple[str, bool | None]:
        verdict = await grade_maths(gold, text, grading.workers)
        return verdict.status, verdict.others.get("paper")

    assert await status(r"\frac{3}{2}", r"\boxed{1.5}") == ("correct", True)
    assert await status("x+1", r"\boxed{1 + x}") == ("correct", True)
    assert await status(r"\frac{1}{2}", r"\boxed{\frac{2}{4}}") == ("correct", False)
    assert await status("5", r"\boxed{6}") == ("incorrect", False)
    assert await status("52_8", r"\boxed{52_9}") == ("incorrect", False)
    assert await status("52_8", r"\boxed{52_{8}}") == ("correct", True)
    assert await status(".0000672", r"\boxed{.0000673}") == ("incorrect", False)
    assert await status("5", "So the answer is $5$.") == ("correct", False)
    assert await status("5", "Nothing here.") == ("incorrect", False)
    assert await status("5", "") == ("incorrect", False)
    assert await status("5", r"\boxed{" + "5" * 5000 + "}") == ("incorrect", False)
    assert await status("5", "\\boxed{\udcff}\0") == ("incorrect", False)
    none = await grade_maths("5", "Nothing here.", grading.workers)
    assert (none.extracted, none.detail) == (None, "no answer found")


@pytest.mark.slow
async def test_a_bomb_is_killed_is_a_failure_and_the_run_goes_on() -> None:
    async with Grading(concurrency=1, maths_limit_s=3.0) as grading:
        verdict = await grade_maths("5", r"\boxed{9^{9^{9^{9}}}}", grading.workers)
        assert (verdict.status, verdict.detail) == ("failed", "not done within 3 s")
        late = await grade_maths("5", r"\boxed{9**9**9**9}", grading.workers)
        assert late.status in ("failed", "incorrect")
        assert "paper" not in late.others or not late.others["paper"]
    async with Grading(concurrency=1, maths_limit_s=60.0) as grading:
        assert (await grade_maths("5", r"\boxed{5}", grading.workers)).status == "correct"


@pytest.mark.slow
async def test_a_worker_that_dies_is_replaced_and_one_that_is_late_is_gone() -> None:
    workers = Workers(1, 60.0)
    assert await ask_released(workers, "x", "x")
    (worker,) = workers._idle
    os.kill(worker.pid, signal.SIGKILL)
    await worker.wait()
    with pytest.raises(WorkerDied):
        await ask_released(workers, "x", "x")
    assert await ask_released(workers, "x", "x")
    (worker,) = workers._idle
    workers.limit_s = 0.5
    with pytest.raises(WorkerLate, match="not done within"):
        await workers.ask("math-verify", "5", r"\boxed{9^{9^{9^{9}}}}")
    assert worker.returncode == -signal.SIGKILL
    workers.limit_s = 60.0
    task = asyncio.create_task(workers.ask("math-verify", "5", r"\boxed{9^{9^{9^{9}}}}"))
    while not worker_pids():
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await workers.aclose()
    assert worker_pids() == []


def worker_pids() -> list[int]:
    """Maths workers that this process has started and that are not gone."""
    path = f"/proc/self/task/{os.getpid()}/children"
    with open(path, encoding="ascii") as file:
        children = list(map(int, file.read().split()))
    found: list[int] = []
    for pid in children:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"evals.graders.math_worker" in file.read():
                found.append(pid)
    return found


STUB = 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef area(r: float) -> float:\n    """ {r} """\n'


def test_a_continuation_ends_with_the_body() -> None:
    body = "    if r:\n\n        return 3 * r * r\n    return (\n0\n)\n"
    assert continued(STUB, "    return 3\n\ndef other():\n    pass\n") == STUB + "    return 3\n\n"
    assert continued(STUB, "\n    return 3\n# a remark\n    return 4") == STUB + "\n    return 3\n"
    assert continued(STUB, body) == STUB + "    if r:\n\n        return 3 * r * r\n    return (\n"
    assert continued(STUB, "    return (\n        3\n)\nprint(1)") == STUB + "    return (\n        3\n)\n"
    assert continued(STUB, "return 3") == STUB + "\n"
    assert continued(STUB, "\treturn 3\r\n\treturn 4") == STUB + "\treturn 3\n\treturn 4\n"


def test_a_chats_block_with_the_function_is_taken() -> None:
    block = "def area(r):\n    return 3 * r\n"
    wanted = STUB[: STUB.index("def area")] + block
    assert from_chat(STUB, "area", f"Sure:\n```python\n{block}```\nUse it:\n```\narea(3)\n```") == wanted
    assert from_chat(STUB, "area", f"```python\ndef area(r): 0\n```\nBetter:\n```py\n{block}```") == wanted
    assert from_chat(STUB, "area", f"```python\n{block}") == wanted
    assert from_chat(STUB, "area", "```python\n    return 3\n```") == STUB + "    return 3\n"
    assert from_chat(STUB, "area", "    return 3") == STUB + "    return 3\n"
    assert from_chat(STUB, "area", block) == STUB[: STUB.index("def area")] + block + "\n"
    assert list(code_blocks("a\n```\nb\n```\nc\n  ```python\nd")) == ["b", "d"]


def test_the_released_program_repeats_the_docstring_and_wants_two_spaces() -> None:
    assert released_program(STUB, "area", "    return 3\nprint(1)\n") == STUB + '    """ {r} """\n    return 3\n'
    assert released_program(STUB, "area", " x = 1\n    return 3") == STUB + '    """ {r} """\n'
    assert released_program(STUB, "area", "    return 3\n\n\n    return 4\nif __name__").endswith(
        "3\n\n\n    return 4\n"
    )
    assert released_program("x", "area", "y") == "x    xy\n"


LONG = 1_000_000
HOSTILE = {
    "braces": "\\boxed{" + "{" * LONG,
    "boxes": "\\boxed{" * (LONG // 7),
    "backslashes": "\\boxed{" + "\\" * LONG,
    "spaces": "answer is" + " " * LONG,
    "answers": "answer is " * (LONG // 10),
    "stars": "answer: " + "*" * LONG,
    "letters": "A " * (LONG // 2),
    "brackets": "(A" * (LONG // 2),
    "digits": "answer is " + "1" * LONG,
    "thousands": "answer is 1" + ",111" * (LONG // 4),
    "text macros": "\\boxed{" + "\\text{" * (LONG // 6),
    "newlines": "\n" * LONG,
    "tabs and newlines": "\t\n" * (LONG // 2),
    "fences": "```\n" * (LONG // 4),
    "definitions": "def area(" * (LONG // 9),
    "definition and spaces": "def" + " " * LONG,
    "colons": "def area(r):\n" + ":\n" * (LONG // 2),
    "fence, then definitions": "```" + "def area" * (LONG // 8),
}
READERS: dict[str, Callable[[str], object]] = {
    "box": last_boxed,
    "letter": extract_letter,
    "released letter": released_letter,
    "integer": extract_integer,
    "continuation": lambda text: continued(STUB, text),
    "chat": lambda text: from_chat(STUB, "area", text),
    "released program": lambda text: released_program(STUB, "area", text),
}


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_reader_takes_more_than_linear_time(name: str) -> None:
    for reader in READERS.values():
        reader(HOSTILE[name])


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["1,", "1", " ", "^", "\\frac", "\\sqrt", "\\text{", "{", "(", "- ", "cm ", "0", "/0", "1 "]
)
def test_the_rules_take_little_time_on_what_reaches_them(unit: str) -> None:
    text = (unit * 1000)[:1000]
    as_in_math(text)
    as_in_prm800k(text)
    read_integer(text)
    equal_by_rules("1", text)
    equal_by_rules("\\text{ 1}", "\\text{" + text[:900] + "}")
