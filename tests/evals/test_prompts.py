"""How problems are asked: the paper's structure in our own words, chats, examples, and the user's templates."""

import hashlib
from pathlib import Path

import pytest

from evals.benchmarks import BENCHMARKS
from evals.errors import TemplateError
from evals.problem import STYLES, Problem, Prompt
from evals.prompts import Template

QUESTION = "What is 2 + 2, if {braces} and $x^{2}$ stay?"
PROBLEMS = {
    "math500": Problem("m", "math500", QUESTION, "4"),
    "aime26": Problem("a", "aime26", QUESTION, "4"),
    "gpqa": Problem("g", "gpqa", QUESTION, "4 m", {"wrong": ("1 m", "2 m", "3 m")}),
    "humaneval": Problem(
        "h", "humaneval", 'def four() -> int:\n    """ {4} """\n', "", {"entry_point": "four", "tests": ""}
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("style", STYLES)
def test_every_style_asks_the_question_once_and_says_its_name(name: str, style: str) -> None:
    prompt = BENCHMARKS[name].prompt(PROBLEMS[name], style, 0)  # type: ignore[arg-type]
    text = prompt.text or "".join(message["content"] for message in prompt.messages or ())
    assert text.count(PROBLEMS[name].question.strip()) == 1
    assert prompt.style == style
    assert (prompt.messages is not None) == (style == "chat")


def test_the_papers_structure() -> None:
    text = BENCHMARKS["math500"].prompt(PROBLEMS["math500"], "paper", 0).text or ""
    instruction, question, reminder = text.split("\n\n")
    assert question == QUESTION
    assert all(part.count("\\boxed{}") == 1 for part in (instruction, reminder))
    assert BENCHMARKS["aime26"].prompt(PROBLEMS["aime26"], "paper", 0).text == text
    stub = BENCHMARKS["humaneval"].prompt(PROBLEMS["humaneval"], "paper", 0)
    assert (stub.text, len(stub.stops)) == (PROBLEMS["humaneval"].question, 10)
    options = (BENCHMARKS["gpqa"].prompt(PROBLEMS["gpqa"], "paper", 0).text or "").split("\n\n")[2].splitlines()
    assert sorted(line[3:] for line in options) == ["1 m", "2 m", "3 m", "4 m"]
    assert [line[:3] for line in options] == ["A) ", "B) ", "C) ", "D) "]


def test_few_shot_stops_before_the_next_question() -> None:
    prompt = BENCHMARKS["math500"].prompt(PROBLEMS["math500"], "few-shot", 0)
    assert (prompt.text or "").endswith(f"Question: {QUESTION}\nAnswer:")
    assert prompt.stops == ("\nQuestion:",)
    assert (prompt.text or "").count("\\boxed{") == 4


def test_an_unknown_style_is_refused() -> None:
    for name, problem in PROBLEMS.items():
        with pytest.raises(ValueError, match="knows no prompt style 'papers'"):
            BENCHMARKS[name].prompt(problem, "papers", 0)  # type: ignore[arg-type]


def test_a_prompt_is_a_text_or_a_chat() -> None:
    for wrong in ({}, {"text": "a", "messages": ()}):
        with pytest.raises(ValueError, match="either"):
            Prompt(**wrong)


def written(folder: Path, text: str) -> Template:
    path = folder / "template.txt"
    path.write_text(text, encoding="utf-8")
    return Template.read(path)


def test_a_template_is_sent_to_the_letter_and_recorded(tmp_path: Path) -> None:
    text = "Q: {question}\nPut it in \\boxed{{}}!\n"
    prompt = BENCHMARKS["math500"].prompt(PROBLEMS["math500"], written(tmp_path, text), 0)
    assert prompt.text == f"Q: {QUESTION}\nPut it in \\boxed{{}}!\n"
    assert prompt.style == "template"
    assert prompt.record == {"template_sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_gpqa_templates_take_the_options_together_or_apart(tmp_path: Path) -> None:
    together = BENCHMARKS["gpqa"].prompt(PROBLEMS["gpqa"], written(tmp_path, "{question}|{options}"), 3)
    apart = BENCHMARKS["gpqa"].prompt(
        PROBLEMS["gpqa"], written(tmp_path, "{question}|A) {A}\nB) {B}\nC) {C}\nD) {D}"), 3
    )
    assert together.text == apart.text
    assert together.record["options_seed"] == 3


@pytest.mark.parametrize(
    ("benchmark", "text", "reason"),
    [
        ("math500", "no question", r"lacks \{question\}"),
        ("math500", "{question} {answer}", r"\{answer\} is unknown; math500 knows \{question\}"),
        ("math500", "{question} \\boxed{}", r"placeholder \{\} is not a plain name; double"),
        ("math500", "{question} {", "do not match up"),
        ("math500", "{question.__class__}", "not a plain name"),
        ("math500", "{question!r}", "not a plain name"),
        ("math500", "{question:>100000000}", "not a plain name"),
        ("math500", "{0}", "not a plain name"),
        ("gpqa", "{question} {A} {B} {C}", r"lacks \{D\}"),
        ("humaneval", "nothing", r"lacks \{question\}"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(tmp_path: Path, benchmark: str, text: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        BENCHMARKS[benchmark].prompt(PROBLEMS[benchmark], written(tmp_path, text), 0)


def test_a_template_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff{question}")
    for name in ("bytes", "nowhere"):
        with pytest.raises(TemplateError, match=f"{name} cannot be read"):
            Template.read(tmp_path / name)
