"""The report as one page: tables, plots and every problem; no script, nothing fetched, model text escaped."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from evals.report.markdown import markdown
from evals.report.plots import plots
from evals.report.tables import ArmTable

TEXT_CHARS = 4000
"""Of an answer's text, that much is shown."""
UNSHOWN = frozenset({"gpqa"})
"""Benchmarks whose authors ask that nothing which could repeat a question be published."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
CSS = """
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;margin:.6rem 0;display:block;overflow-x:auto}
th,td{border:1px solid #d5d9de;padding:.2rem .5rem;text-align:left;vertical-align:top}
th{background:#f2f4f6}.grid td{padding:0;width:1.6rem;height:1.1rem;text-align:center;font-size:10px}
.grid th{font-weight:400;font-size:11px}pre{white-space:pre-wrap;background:#f6f8fa;padding:.5rem;font-size:12px}
svg{max-width:100%;height:auto}figure{margin:1rem 0}figcaption{font-weight:600}code{font-size:12px}
"""


def page(summary: Mapping[str, Any], groups: Sequence[Sequence[ArmTable]], texts: bool) -> str:
    """The whole page.

    Args:
        summary: The report's numbers.
        groups: The arms behind each of its benchmarks, for the texts.
        texts: Whether answers' texts are shown.
    """
    parts = [from_markdown(markdown(summary))]
    for number, (found, tables) in enumerate(zip(summary["benchmarks"], groups, strict=True)):
        name = escape(found["benchmark"])
        parts.append(f"<h2>{name}: plots</h2>")
        made = plots(found, f"plot{number}")
        parts += [f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in made.items()]
        parts += [f"<h2>{name}: every problem</h2>", grid(found)]
        if texts and found["benchmark"] not in UNSHOWN:
            parts += [f"<h2>{name}: answers</h2>", answers(tables)]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>powercut-eval</title><style>{CSS}</style></head><body>\n{body}\n</body></html>\n"
    )


def from_markdown(text: str) -> str:
    """HTML of the Markdown that `evals.report.markdown` writes: headings, tables, lists, paragraphs, and no more."""
    return "\n".join(block(each) for each in text.strip().split("\n\n"))


def block(text: str) -> str:
    """One block."""
    if heading := re.match(r"(#{1,3}) (.*)", text):
        level = len(heading[1])
        return f"<h{level}>{inline(heading[2])}</h{level}>"
    lines = text.split("\n")
    if lines[0].startswith("| "):
        head, _, *rows = [[inline(each) for each in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        cells = "".join(f"<th>{each}</th>" for each in head)
        body = "".join(f"<tr>{''.join(f'<td>{each}</td>' for each in row)}</tr>" for row in rows)
        return f"<table><tr>{cells}</tr>{body}</table>"
    if lines[0].startswith("- "):
        return f"<ul>{''.join(f'<li>{inline(line[2:])}</li>' for line in lines)}</ul>"
    return f"<p>{inline(text)}</p>"


def inline(text: str) -> str:
    """Escaped text with bold and code."""
    found = escape(text.strip().replace("\\|", "|").replace("&lt;", "<"))
    found = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", found)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", found)


def grid(found: Mapping[str, Any]) -> str:
    """A row an arm and a column a problem, from red for never right to green for always."""
    problems = list(found["grid"])
    rows: list[str] = []
    for arm in found["arms"]:
        cells = "".join(square(problem, found["grid"][problem][arm["label"]]) for problem in problems)
        rows.append(f"<tr><th>{escape(arm['label'])}</th>{cells}</tr>")
    return f'<table class="grid">{"".join(rows)}</table>'


def square(problem: str, rate: float | None) -> str:
    """One problem's share of right answers; the problem's name shows under the pointer."""
    if rate is None:
        return f'<td title="{escape(problem)}: no answer">·</td>'
    colour = f"hsl({round(120 * rate)} 60% 72%)"
    shown = "" if rate in {0.0, 1.0} else f"{rate:.1f}".lstrip("0")
    return f'<td title="{escape(problem)}: {rate:.2f}" style="background:{colour}">{shown}</td>'


def answers(tables: Sequence[ArmTable]) -> str:
    """The first answer of each arm to each problem."""
    problems = list(dict.fromkeys(problem for table in tables for problem in table.problems))
    return "\n".join(one_problem(problem, tables) for problem in problems)


def one_problem(problem: str, tables: Sequence[ArmTable]) -> str:
    """A problem's answers, folded."""
    shown: list[str] = []
    for table in tables:
        for record in table.by_problem.get(problem, [])[:1]:
            text, verdict = record["text"], record["verdict"]
            told = f"{table.label}: {verdict['status']} {verdict['detail']}, {record['finish_reason']}"
            more = "…" if len(text) > TEXT_CHARS else ""
            shown.append(f"<p>{escape(told)}</p><pre>{escape(text[:TEXT_CHARS])}{more}</pre>")
    return f"<details><summary>{escape(problem)}</summary>{''.join(shown)}</details>"
