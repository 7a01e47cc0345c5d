"""GPQA Diamond: 198 multiple-choice questions of graduate science, options shuffled by a recorded seed.

The authors ask that questions and answers not be shown in plain text online, so nothing of them is in this repository,
and neither records nor messages carry them: a record names the question's id and the order of its options.
"""

import csv
import hashlib
import io
import random
from dataclasses import dataclass
from pathlib import Path

from evals.data import Source, read
from evals.graders.letter import extract_letter, released_letter
from evals.grading import Grading
from evals.problem import DataSet, Defaults, Problem, Prompt, Style, Verdict
from evals.prompts import Template, Wording, Worked, from_template

REVISION = "633f5ee89ab8ad4522a9f850766b73f62147ffdd"
GATED = (
    "GPQA is gated by its authors: log in at https://huggingface.co/datasets/Idavidrein/gpqa, accept the terms there, "
    "make a read token at https://huggingface.co/settings/tokens and give it as HF_TOKEN; then run "
    "`powercut-eval data fetch gpqa` again. Or put gpqa_diamond.csv into a folder and run "
    "`powercut-eval data fetch gpqa --from FOLDER`"
)
SOURCE = Source(
    "gpqa",
    "gpqa_diamond.csv",
    "41d1213cd7a4998605a26c2798500652572007161b3a92817ba46b35befcd305",
    f"{{hub}}/datasets/Idavidrein/gpqa/resolve/{REVISION}/gpqa_diamond.csv",
    "Idavidrein/gpqa",
    REVISION,
    gated=GATED,
)
LETTERS = "ABCD"
RIGHT = "Correct Answer"
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
EXAMPLES = (
    Worked(
        "A stone falls from rest for 3 s. How far does it fall, with g = 10 m/s² and no drag?\n\n"
        "A) 15 m\nB) 30 m\nC) 45 m\nD) 90 m",
        "The distance is g t²/2 = 10 · 9 / 2 = 45 m. \\boxed{C}",
    ),
    Worked(
        "Which of these has the highest first ionisation energy?\n\nA) Neon\nB) Sodium\nC) Argon\nD) Potassium",
        "It rises along a period and falls down a group, so neon comes first. \\boxed{A}",
    ),
    Worked(
        "Two heterozygous parents (Aa) have a child. What is the probability that it is homozygous?\n\n"
        "A) 1/4\nB) 3/4\nC) 1\nD) 1/2",
        "AA and aa have a probability of 1/4 each, together 1/2. \\boxed{D}",
    ),
)
WORDING = Wording(
    instruction=(
        "Here is a multiple-choice question. Reason step by step, then end with a last line that holds the letter of "
        "your choice, one of A, B, C and D, inside \\boxed{}."
    ),
    reminder="Do not forget: the last line is \\boxed{} with the letter of your choice.",
    system="You are an expert scientist who reasons carefully.",
    examples=EXAMPLES,
)

DEFAULTS = Defaults(max_tokens=2048, alpha=4.0, paper_max_tokens=6144)


@dataclass(frozen=True)
class Gpqa:
    """The benchmark; see `evals.benchmarks.Benchmark`."""

    source: Source = SOURCE
    name: str = "gpqa"
    defaults: Defaults = DEFAULTS
    runs_code: bool = False

    def load(self, folder: Path | None = None) -> DataSet:
        """The 198 questions."""
        rows = csv.DictReader(io.StringIO(read(self.source, folder).decode("utf-8"), newline=""))
        return self.source.data_set(
            tuple(
                Problem(
                    row["Record ID"],
                    self.name,
                    row["Question"].strip(),
                    row[RIGHT].strip(),
                    {"wrong": tuple(row[name].strip() for name in WRONG), "domain": row.get("High-level domain", "")},
                )
                for row in rows
            )
        )

    def prompt(self, problem: Problem, style: Style | Template, seed: int) -> Prompt:
        """The question with its options in the order that seed and id give; the gold answer is a letter."""
        order = option_order(problem.id, seed)
        options = [(problem.answer, *problem.extra["wrong"])[index] for index in order]
        gold = LETTERS[order.index(0)]
        record = {"options": order, "options_seed": seed}
        listed = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=True))
        if isinstance(style, Template):
            values = {"question": problem.question, "options": listed, **dict(zip(LETTERS, options, strict=True))}
            required = {"question", "options"} if "options" in style.fields() else {"question", *LETTERS}
            return from_template(style, self.name, values, frozenset(required), gold=gold, record=record)
        return WORDING.prompt(f"{problem.question}\n\n{listed}", style, gold, record)

    async def grade(self, problem: Problem, prompt: Prompt, answer: str, grading: Grading) -> Verdict:
        """By letter; by the released code's letter beside it."""
        letter = extract_letter(answer)
        status = "correct" if letter == prompt.gold else "incorrect"
        others = {"paper": released_letter(answer) == prompt.gold}
        return Verdict(status, letter, "letter", "" if letter else "no letter found", others)


def option_order(identity: str, seed: int) -> tuple[int, ...]:
    """Where the options go: 0 is the right one. It depends on the seed and the question's id only.

    The released code draws one order after another from one stream, so there an order depends on the questions before.
    """
    digest = hashlib.sha256(f"{seed}:{identity}".encode()).digest()
    order = list(range(len(LETTERS)))
    random.Random(int.from_bytes(digest, "big")).shuffle(order)
    return tuple(order)


GPQA = Gpqa()
