"""A divergence run: the answers drawn, redrawn and compared, problem by problem, and what they add up to."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.client import CallFailed, Client, read_reply
from evals.divergence import (
    BOTTOM,
    TOP,
    Probe,
    Trace,
    choose,
    prefix,
    prompt_ids,
    read_trace,
    redraw_body,
    sequence,
)
from evals.errors import OptionError
from evals.problem import Problem, Prompt
from evals.records import ANSWERED, FAILED, Key, Record, read_records, write_atomically
from evals.report.markdown import table, with_interval
from evals.report.summary import estimate
from evals.run import Context
from evals.settings import answer_seed, request_body
from evals.statistics.editing import mean_normalised_distance
from evals.statistics.paired import sign_test
from evals.statistics.resampling import cluster_mean

MEASURES = {
    "distance": "mean normalised edit distance",
    "distinct": "distinct final answers ÷ final answers",
    "answered": "redraws with a final answer",
    "correct": "redraws that are right",
    "position": "position ÷ length",
}


@dataclass(frozen=True, slots=True)
class Probing:
    """Probes every problem that is not done yet, with `concurrency` calls under way."""

    context: Context
    probe: Probe
    concurrency: int

    async def __call__(self) -> None:
        """Until every problem is probed or has failed."""
        slots = asyncio.Semaphore(self.concurrency)
        wanting = [each for each in self.context.problems if self.context.folder.answered(self._key(each)) is None]
        async with asyncio.TaskGroup() as group:
            for problem in wanting:
                group.create_task(self._problem(problem, slots))

    def _key(self, problem: Problem) -> Key:
        return Key(self.context.settings.arms[0].name, problem.id, 0)

    async def _problem(self, problem: Problem, slots: asyncio.Semaphore) -> None:
        context = self.context
        client, version = context.servers[context.settings.arms[0].name]
        record: dict[str, Any] = {**self._key(problem)._asdict(), "versions": version}
        record |= {"settings": context.folder.digest, "seed": answer_seed(context.settings.seed, problem.id, 0)}
        try:
            async with slots:
                record |= await self._probe(client, problem)
        except CallFailed as failed:
            record |= {"status": FAILED, "failure": failed.report()}
        await asyncio.to_thread(context.folder.append, record)
        context.tell(record)

    async def _probe(self, client: Client, problem: Problem) -> dict[str, Any]:
        """One problem's record: the trace, and what its redraws at each position were like."""
        context, arm = self.context, self.context.settings.arms[0]
        prompt = context.benchmark.prompt(problem, context.style, context.settings.seed)
        if prompt.text is None:
            raise OptionError("divergence continues a completion: give a --prompt-style that is no chat")
        path, body = request_body(context.settings, arm, prompt, problem, 0, None)
        reply = await client.answer(path, body | {"logprobs": self.probe.alternatives})
        try:
            trace = read_trace(reply)
        except ValueError as error:
            raise CallFailed("malformed", str(error)) from None
        ids = await prompt_ids(client, arm.model, prompt.text, trace, reply)
        rng = np.random.default_rng(answer_seed(context.settings.seed, problem.id, 1))
        groups: dict[str, list[dict[str, Any]]] = {}
        for name, positions in choose(trace.jumps, self.probe, rng).items():
            groups[name] = [await self._redraw(client, problem, prompt, trace, ids, each) for each in positions]
        return {
            "status": ANSWERED,
            "text": reply.text,
            "tokens": {"completion": reply.completion_tokens, "generated": reply.generated_tokens},
            "verdict": {"status": "probed"},
            "length": len(trace.offsets),
            "prefix": "text" if ids is None else "ids",
            "reported_mass": float(trace.mass.mean()) if len(trace.mass) else None,
            "share_without_jump": float((trace.jumps == 0).mean()) if len(trace.mass) else None,
            "groups": groups,
        }

    async def _redraw(
        self, client: Client, problem: Problem, prompt: Prompt, trace: Trace, ids: list[int] | None, position: int
    ) -> dict[str, Any]:
        """Redraw the rest from one position and compare the redraws with each other."""
        context, probe = self.context, self.probe
        assert prompt.text is not None, "a completion"
        seed = answer_seed(context.settings.seed, problem.id, 2 + position)
        stops = prompt.stops[: context.settings.max_stops]
        start = prefix(prompt.text, ids, trace, position)
        body = redraw_body(context.settings.arms[0].model, start, stops, probe, seed, probe.suffix_tokens)
        choices: list[Mapping[str, Any]] = (await client.post("/v1/completions", body)).get("choices") or []
        kept = trace.text[: trace.offsets[position]]
        texts = [kept + read_reply({"choices": [each]}).text for each in choices]
        verdicts = await asyncio.gather(
            *(context.benchmark.grade(problem, prompt, text, context.grading) for text in texts)
        )
        answers = [each.extracted for each in verdicts if each.extracted is not None]
        distance = await asyncio.to_thread(mean_normalised_distance, [sequence(each) for each in choices])
        return {
            "at": position,
            "position": position / len(trace.offsets),
            "jump": float(trace.jumps[position]),
            "entropy": float(trace.entropies[position]),
            "redraws": len(choices),
            "distance": distance,
            "distinct": len(set(answers)) / len(answers) if len(answers) > 1 else None,
            "answered": len(answers) / len(choices) if choices else None,
            "correct": sum(each.status == "correct" for each in verdicts) / len(choices) if choices else None,
        }


def add_up(records: Sequence[Record], probe: Probe, delta: float = 0.05, seed: int = 0) -> dict[str, Any]:
    """Top against bottom, problem by problem: means, paired differences with bootstrap intervals, and sign tests."""
    rng = np.random.default_rng(seed)
    done = [each for each in records if each["status"] == ANSWERED]
    used = [each for each in done if all(each["groups"].get(name) for name in (TOP, BOTTOM))]
    found: dict[str, Any] = {
        "probe": asdict(probe),
        "delta": delta,
        "problems": len(used),
        "too_short": len(done) - len(used),
        "failed": len(records) - len(done),
        "prefix": sorted({each["prefix"] for each in used}),
        "reported_mass": float(np.mean([each["reported_mass"] for each in used])) if used else None,
        "share_without_jump": float(np.mean([each["share_without_jump"] for each in used])) if used else None,
        "measures": {},
    }
    for name in MEASURES:
        pairs = [(mean(each["groups"][TOP], name), mean(each["groups"][BOTTOM], name)) for each in used]
        both = [(top, bottom) for top, bottom in pairs if top is not None and bottom is not None]
        if not both:
            continue
        tops, bottoms = np.array(both, float).T
        wins, losses = int((tops > bottoms).sum()), int((tops < bottoms).sum())
        found["measures"][name] = {
            "problems": len(both),
            TOP: estimate(cluster_mean(tops, rng, delta)),
            BOTTOM: estimate(cluster_mean(bottoms, rng, delta)),
            "difference": estimate(cluster_mean(tops - bottoms, rng, delta)),
            "higher": wins,
            "lower": losses,
            "sign_p": sign_test(wins, losses)[0],
        }
    return found


def mean(positions: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The mean of a measure over positions that have it."""
    values = [each[name] for each in positions if each[name] is not None]
    return float(np.mean(values)) if values else None


def as_markdown(found: Mapping[str, Any]) -> str:
    """The result as a table, with what it rests on."""
    head = ["measure", "problems", "top tenth of Δ", "bottom tenth", "difference", "higher : lower", "sign test p"]
    rows = [
        [
            MEASURES[name],
            each["problems"],
            with_interval(each[TOP]),
            with_interval(each[BOTTOM]),
            with_interval(each["difference"]),
            f"{each['higher']} : {each['lower']}",
            f"{each['sign_p']:.3g}",
        ]
        for name, each in found["measures"].items()
    ]
    probe = found["probe"]
    told = [
        f"{found['problems']} problems ({found['too_short']} too short, {found['failed']} failed), up to "
        f"{probe['positions']} positions a group, {probe['resamples']} redraws of at most {probe['suffix_tokens']} "
        f"tokens at α = {probe['alpha']:g}; {1 - found['delta']:.0%} bootstrap intervals over problems."
    ]
    if found["problems"]:
        told.append(
            f"Prefixes were sent as {' and '.join(found['prefix'])}. The {probe['alternatives']} likeliest tokens, "
            f"over which entropies are taken, hold {found['reported_mass']:.4f} of the probability; "
            f"{found['share_without_jump']:.2f} of the positions have no jump at all."
        )
    return "\n\n".join(["# Divergence at entropy jumps", table(head, rows), *told]) + "\n"


def write_divergence(folder: Path, probe: Probe) -> str:
    """Add up a folder's records into `divergence.json` and `divergence.md`; the text of the second."""
    found = add_up(list(read_records(folder).values()), probe)
    text = as_markdown(found)
    write_atomically(folder / "divergence.json", json.dumps(found, indent=1, allow_nan=False).encode())
    write_atomically(folder / "divergence.md", text.encode())
    return text
