"""What passes between a benchmark, the run and a grader: problems, prompts and verdicts, all plain and frozen.

The question, the gold answer and a prompt's text stay out of every `repr`: GPQA's authors ask that its questions not
be shown in plain text, and a log line or a traceback is such a place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["paper", "chat", "few-shot"]
STYLES: tuple[Style, ...] = ("paper", "chat", "few-shot")
Status = Literal["correct", "incorrect", "failed"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One question of a benchmark.

    Attributes:
        id: Unique within the benchmark and stable, for records.
        benchmark: Its name in `BENCHMARKS`.
        question: The question's text; of HumanEval the code stub.
        answer: The gold final answer; of HumanEval the reference body.
        extra: What else the benchmark's own prompt and grader need (tests, options, level).
    """

    id: str
    benchmark: str
    question: str = field(repr=False)
    answer: str = field(repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent for one problem: a text for `/v1/completions` or messages for `/v1/chat/completions`.

    Attributes:
        text: The prompt of a completion, or None.
        messages: The messages of a chat, each `{"role": …, "content": …}`, or None. One of the two is given.
        stops: Stop strings. A server that allows fewer may get only the first: graders cut at all of them again.
        style: "paper", "chat", "few-shot" or "template": which wording this is, for the record.
        gold: What the grader compares with under this prompt: of GPQA the letter that the shuffle gave the answer.
        record: Plain data that belongs in the answer's record (GPQA's option order and seed, a template's sha256);
            never benchmark text.
    """

    text: str | None = field(default=None, repr=False)
    messages: tuple[Mapping[str, str], ...] | None = field(default=None, repr=False)
    stops: tuple[str, ...] = ()
    style: str = "paper"
    gold: str = field(default="", repr=False)
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.text is None) == (self.messages is None):
            raise ValueError("a prompt has either a text or messages")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the graders say of one answer.

    Attributes:
        status: "correct", "incorrect", or "failed": it could not be graded. A failed answer counts as not correct
            in an accuracy, and its number stands beside it; it is never turned into "incorrect" in silence.
        extracted: The final answer that was found in the text (None: none was), at most `EXTRACTED_CHARS` long; of
            HumanEval the program's sha256.
        grader: The grader that decided, with its version.
        detail: Why, in a few words.
        others: What other graders say, by name: True is correct. `paper` is the paper-compatible one.
    """

    status: Status
    extracted: str | None
    grader: str
    detail: str = ""
    others: Mapping[str, bool] = field(default_factory=dict)


EXTRACTED_CHARS = 1000
"""Longest `Verdict.extracted`: records stay readable whatever a model writes."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a benchmark is run with where nothing else is said.

    Attributes:
        max_tokens: The answer's length limit in everyday runs.
        alpha: The power exponent α.
        paper_max_tokens: T of the paper's tables.
    """

    max_tokens: int
    alpha: float
    paper_max_tokens: int


@dataclass(frozen=True, slots=True)
class DataSet:
    """A benchmark's problems and where they came from.

    Attributes:
        problems: In the file's order.
        sha256: Of the file as it lies in the data folder: published scores depend on the copy.
        source: Where the file's bytes come from.
        revision: The pinned revision there.
    """

    benchmark: str
    problems: tuple[Problem, ...]
    sha256: str
    source: str
    revision: str
