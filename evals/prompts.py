"""How problems are asked: templates of the user's own, and the making of prompts that every benchmark shares.

The built-in wordings are our own words in the structure of the paper's. The paper's exact strings, or any other, are
given as a template.
"""

import hashlib
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evals.errors import TemplateError
from evals.problem import Prompt, Style


@dataclass(frozen=True, slots=True)
class Template:
    r"""A user's own prompt: a text with `{question}`-style placeholders, sent as a completion.

    A literal brace is doubled, as in Python's format strings: `\boxed{{}}` sends `\boxed{}`.
    """

    text: str
    sha256: str

    @classmethod
    def read(cls, path: Path) -> "Template":
        """Read a template file.

        Raises:
            TemplateError: The file cannot be read, or its braces do not form placeholders.
        """
        try:
            raw = path.read_bytes()
            text = raw.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateError(f"the prompt template {path.name} cannot be read: {error}") from error
        template = cls(text, hashlib.sha256(raw).hexdigest())
        template.fields()
        return template

    def fields(self) -> frozenset[str]:
        """The placeholders' names.

        Raises:
            TemplateError: The braces are unbalanced, or a placeholder is more than a plain name.
        """
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise TemplateError(
                f"the prompt template's braces do not match up ({error}); double a literal one"
            ) from None
        for _, name, spec, conversion in parts:
            if name is not None and (not name.isidentifier() or spec or conversion):
                raise TemplateError(
                    f"the prompt template's placeholder {{{name}}} is not a plain name; double the braces if it is text"
                )
        return frozenset(name for _, name, _, _ in parts if name is not None)

    def fill(self, benchmark: str, required: frozenset[str], values: Mapping[str, str]) -> str:
        """The prompt of one problem.

        Args:
            benchmark: For the message.
            required: Placeholders without which the problem would not be asked.
            values: Every placeholder that the benchmark knows.

        Raises:
            TemplateError: A required placeholder is missing or one is unknown.
        """
        fields = self.fields()
        known = ", ".join(f"{{{name}}}" for name in sorted(values))
        if unknown := fields - set(values):
            raise TemplateError(
                f"the prompt template's placeholder {{{min(unknown)}}} is unknown; {benchmark} knows {known}"
            )
        if missing := required - fields:
            raise TemplateError(f"the prompt template lacks {{{min(missing)}}}, without which {benchmark} asks nothing")
        return self.text.format_map(values)


def refuse(style: object, benchmark: str) -> ValueError:
    """The error for a style that a benchmark does not know."""
    return ValueError(f"{benchmark} knows no prompt style {style!r}")


@dataclass(frozen=True, slots=True)
class Worked:
    """A worked example of a few-shot prompt; made up for this project, from no benchmark."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Wording:
    """The built-in wordings of one benchmark.

    Attributes:
        instruction: Said before the question.
        reminder: Said after it, in the paper's structure.
        system: The chat's system message.
        examples: Worked examples of the few-shot prompt.
        heading: What opens a question there, and by which a base model that goes on is stopped.
    """

    instruction: str
    reminder: str
    system: str
    examples: tuple[Worked, ...]
    heading: str = "Question:"

    def prompt(self, question: str, style: Style, gold: str, record: Mapping[str, object]) -> Prompt:
        """A prompt in one of the built-in styles."""
        if style == "paper":
            text = "\n\n".join(part for part in (self.instruction, question, self.reminder) if part)
            return Prompt(text=text, style=style, gold=gold, record=record)
        if style == "chat":
            asked = "\n\n".join(part for part in (question, self.instruction) if part)
            messages = ({"role": "system", "content": self.system}, {"role": "user", "content": asked})
            return Prompt(messages=messages, style=style, gold=gold, record=record)
        if style == "few-shot":
            shown = [f"{self.heading} {each.question}\nAnswer: {each.answer}\n\n" for each in self.examples]
            text = "".join(shown) + f"{self.heading} {question}\nAnswer:"
            return Prompt(text=text, stops=(f"\n{self.heading}",), style=style, gold=gold, record=record)
        raise refuse(style, "this benchmark")


def from_template(
    template: Template,
    benchmark: str,
    values: Mapping[str, str],
    required: frozenset[str],
    *,
    gold: str,
    record: Mapping[str, object],
    stops: tuple[str, ...] = (),
) -> Prompt:
    """A prompt by the user's template, whose sha256 goes into the record."""
    text = template.fill(benchmark, required, values)
    return Prompt(
        text=text, stops=stops, style="template", gold=gold, record={**record, "template_sha256": template.sha256}
    )
