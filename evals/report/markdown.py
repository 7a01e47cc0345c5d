"""The report as Markdown: tables that stand in a terminal, a pull request or a paper's appendix."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evals.report.summary import FIXED, POPULATION


def markdown(summary: Mapping[str, Any]) -> str:
    """The whole report."""
    sections = [section(each, summary["delta"]) for each in summary["benchmarks"]]
    caveats = "\n".join(f"- {each}" for each in summary["caveats"])
    return "\n\n".join(["# powercut-eval", *sections, f"## What these numbers assume\n\n{caveats}"]) + "\n"


def section(found: Mapping[str, Any], delta: float) -> str:
    """All arms on one benchmark."""
    data = found["data"]
    parts = [
        f"## {found['benchmark']}",
        f"Data: {data['source']}, revision `{data['revision']}`, sha256 `{data['sha256']}`.",
        *warnings(found),
        f"### Accuracy, with {1 - delta:.0%} intervals",
        accuracy(found),
        "### What it cost",
        cost(found),
    ]
    if len(next(iter(found["arms"]))["pass_at_k"]) > 1:
        parts += ["### pass@k", passes(found)]
    if found["pairs"]:
        parts += [f"### Against {found['reference']}, on the same problems", pairs(found)]
    parts += ["### How it was asked", setting(found)]
    if found["published"]:
        parts += ["### Published, under other conditions", published(found)]
    return "\n\n".join(parts)


def warnings(found: Mapping[str, Any]) -> list[str]:
    """What must not be overlooked."""
    told: list[str] = []
    for arm in found["arms"]:
        for name, meaning in (
            ("not_yet_asked", "answers are still to be asked: the run is incomplete"),
            ("failed_calls", "calls got no answer; bounds count them as wrong below and right above"),
            ("ungraded", "answers could not be graded; they count as not correct"),
        ):
            if arm[name]:
                told.append(f"- **{arm['label']}**: {arm[name]} {meaning}.")
    return ["\n".join(told)] if told else []


def accuracy(found: Mapping[str, Any]) -> str:
    """Each arm's accuracy with its intervals."""
    tried = found["configurations_tried"]
    head = ["arm", "answers", "correct", "accuracy (bootstrap over problems)", "exact, these problems"]
    head += ["exact, such problems (one answer each)", "at least (one-sided)", f"at least, best of {tried}"]
    rows = []
    for arm in found["arms"]:
        exact = pick(arm, POPULATION, "binomial_tail", "two_sided", 1)
        least = pick(arm, POPULATION, "binomial_tail", "lower", 1)
        united = pick(arm, POPULATION, "binomial_tail", "lower", tried)
        fixed = next((each for each in arm["bounds"] if each["estimand"] == FIXED), None)
        ends = [interval(fixed), interval(exact), ratio(least, "lower"), ratio(united, "lower")]
        rows.append([arm["label"], arm["answers"], arm["correct"], with_interval(arm["accuracy"]), *ends])
    note = "A bootstrap sees only what is in the sample: of no right answers it makes [0, 0]. The exact columns do not."
    return f"{table(head, rows)}\n\n{note}"


def cost(found: Mapping[str, Any]) -> str:
    """Tokens, acceptance and Σ log p of each arm."""
    head = ["arm", "tokens drawn an answer", "of the budget", "tokens in the answer", "acceptance"]
    head += ["Σ log p of the text (nats)", "Σ log p of the answer (nats)", "ended by", "server s", "harness s"]
    rows = []
    for arm in found["arms"]:
        spent, chain, log_p, seconds = arm["cost"], arm["chain"], arm["log_p"], arm["seconds"]
        share = spent["of_budget"]
        rows.append(
            [
                arm["label"],
                with_interval(spent["generated_tokens"], 1),
                "" if share is None else f"{share:.0%}",
                with_interval(spent["completion_tokens"], 1),
                with_interval(chain["acceptance"]) if chain else "",
                with_interval(log_p["text"], 1),
                with_interval(log_p["answer"], 1),
                ", ".join(f"{name} {count}" for name, count in (arm["ended_by"] or arm["finish_reason"]).items()),
                value(seconds["server"], 2),
                value(seconds["harness"], 4),
            ]
        )
    return table(head, rows)


def passes(found: Mapping[str, Any]) -> str:
    """Unbiased pass@k of each arm."""
    ks = sorted({int(k) for arm in found["arms"] for k in arm["pass_at_k"]})
    rows = [[arm["label"], *(with_interval(arm["pass_at_k"].get(str(k))) for k in ks)] for arm in found["arms"]]
    return table(["arm", *(f"pass@{k}" for k in ks)], rows)


def pairs(found: Mapping[str, Any]) -> str:
    """The reference against each other arm."""
    head = ["against", "problems", "difference (bootstrap)", "better : worse : same", "McNemar z (clustered)", "p"]
    head += ["sign test p", "sign flip p"]
    rows = []
    for pair in found["pairs"]:
        counts = f"{pair['wins']} : {pair['losses']} : {pair['ties']}"
        tests = [f"{pair[name]:.3g}" for name in ("mcnemar_p", "sign_p", "flip_p")]
        difference = with_interval(pair["difference"])
        rows.append([pair["second"], pair["problems"], difference, counts, f"{pair['mcnemar_z']:.2f}", *tests])
    return table(head, rows) + "\n\np-values are two-sided and not corrected for the number of arms."


def setting(found: Mapping[str, Any]) -> str:
    """Model, method, prompt and grader of each arm."""
    head = ["arm", "model", "method", "max_tokens", "prompt", "grader", "graders differ", "seed", "repeats"]
    rows = []
    for arm in found["arms"]:
        spec = arm["arm"]
        method = spec["power"] or {name: spec[name] for name in ("temperature", "top_p") if spec[name] is not None}
        differ = ", ".join(f"{name}: {count}" for name, count in arm["graders_differ"].items())
        graders = ", ".join(arm["graders"])
        told = ", ".join(f"{name} {each}" for name, each in method.items()) or "plain sampling"
        prompt = arm["prompt_style"] + (f" {arm['template_sha256'][:12]}" if arm["template_sha256"] else "")
        rest = [arm["max_tokens"], prompt, graders, differ, arm["seed"], arm["repeats"]]
        rows.append([arm["label"], spec["model"], told, *rest])
    return table(head, rows)


def published(found: Mapping[str, Any]) -> str:
    """Numbers from elsewhere, with what they were measured with."""
    head = ["method", "accuracy", "model", "prompt", "grader", "source"]
    names = ("model", "prompt", "grader", "source")
    return table(
        head, [[each["label"], f"{each['accuracy']:.3f}", *(each[n] for n in names)] for each in found["published"]]
    )


def pick(arm: Mapping[str, Any], estimand: str, method: str, side: str, tried: int) -> Mapping[str, Any] | None:
    """One of an arm's bounds."""
    wanted = {"estimand": estimand, "method": method, "side": side, "configurations_tried": tried}
    return next((each for each in arm["bounds"] if wanted.items() <= each.items()), None)


def interval(bound: Mapping[str, Any] | None) -> str:
    """[lower, upper]."""
    return f"[{bound['lower']:.3f}, {bound['upper']:.3f}]" if bound else ""


def ratio(bound: Mapping[str, Any] | None, end: str) -> str:
    """One end of a bound."""
    return f"{bound[end]:.3f}" if bound else ""


def value(found: Mapping[str, Any] | None, digits: int) -> str:
    """An estimate without its interval."""
    return "" if not found or found["value"] is None else f"{found['value']:.{digits}f}"


def with_interval(found: Mapping[str, Any] | None, digits: int = 3) -> str:
    """An estimate with its interval."""
    if not found or found["value"] is None:
        return ""
    centre = f"{found['value']:.{digits}f}"
    if found["lower"] is None:
        return centre
    return f"{centre} [{found['lower']:.{digits}f}, {found['upper']:.{digits}f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell(each) for each in line)} |" for line in lines)


def cell(content: Any) -> str:
    """One cell's text: on one line, with bars that are not the table's."""
    return " ".join(str(content).split()).replace("|", "\\|").replace("<", "&lt;")
