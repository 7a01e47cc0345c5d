"""How problems are asked: built-in wordings in our own words, and templates of the user's own."""

import hashlib
import string
from dataclasses import dataclass
from pathlib import Path

from evals.errors import TemplateError


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

    def fill(self, benchmark: str, required: frozenset[str], values: dict[str, str]) -> str:
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
