"""A report's files: `report.json`, `report.md` and `report.html`."""

import json
from collections.abc import Sequence
from pathlib import Path

from evals.records import write_atomically
from evals.report.markdown import markdown
from evals.report.page import page
from evals.report.published import Published
from evals.report.summary import Level, summarise
from evals.report.tables import grouped

NAME = "report"


def write_report(
    folders: Sequence[Path],
    output: Path,
    level: Level,
    reference: str | None = None,
    published: Sequence[Published] = (),
    *,
    texts: bool = True,
) -> str:
    """Write the report on some runs' folders; its Markdown.

    Args:
        folders: Of runs and comparisons.
        output: Where the files go.
        level: How sure the intervals are.
        reference: The arm that others are tested against, by its label.
        published: Numbers from elsewhere.
        texts: Whether the page shows answers.
    """
    groups = grouped(folders)
    summary = summarise(groups, level, reference, published)
    text = markdown(summary)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / f"{NAME}.json", json.dumps(summary, indent=1, allow_nan=False).encode())
    write_atomically(output / f"{NAME}.md", text.encode())
    html = page(summary, list(groups.values()), texts).encode("utf-8", "replace")
    write_atomically(output / f"{NAME}.html", html)
    return text
