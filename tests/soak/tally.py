"""What clients count of the replies they got, under the names that `/metrics` has for the same."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, str]
"""A metric's name, and its labels but for the model's name as `name=value,name=value` in the alphabet's order."""
CHAIN_COUNTS = ("steps", "accepted", "moved", "rejected_early", "non_finite", "free_tokens", "prefetched_tokens")
UNLABELLED = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
COUNTED = (
    *UNLABELLED,
    *(f"powercut:{name}_total" for name in (*CHAIN_COUNTS, "discarded_tokens", "answer_tokens", "answers")),
    *(f"powercut:{name}_total" for name in ("http_requests", "batch_rows", "admission_rejections", "engine_failures")),
    "vllm:request_success_total",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:request_queue_time_seconds_count",
)
"""Every counter whose value follows from the replies and the log lines of a server."""


def series(name: str, **labels: object) -> Series:
    """A series by its labels."""
    return name, ",".join(f"{label}={labels[label]}" for label in sorted(labels))


@dataclass
class Tally:
    """Counts of one run. `answers` holds what each request was answered, for the next of the same request."""

    counts: Counter[Series] = field(default_factory=Counter[Series])
    answers: dict[str, str] = field(default_factory=dict[str, str])
    kinds: Counter[str] = field(default_factory=Counter[str])
    left: set[str] = field(default_factory=set[str])
    """The ids of requests whose clients did not wait for the end."""

    def add(self, name: str, count: float, **labels: object) -> None:
        """Count."""
        if count:
            self.counts[series(name, **labels)] += int(count)

    def reply(self, route: str, status: int) -> None:
        """A reply was read to its end."""
        self.add("powercut:http_requests_total", 1, route=route, status=status)

    def work(self, body: Mapping[str, Any]) -> None:
        """The tokens, steps and answers of a completion, a chat or a row, as its body tells them."""
        usage, choices = body["usage"], body["choices"]
        power = usage.get("power")
        method = choices[0]["power"]["method"] if power else "standard"
        drawn = power["generated_tokens"] if power else usage["completion_tokens"]
        self.add("vllm:prompt_tokens_total", usage["prompt_tokens"])
        self.add("vllm:generation_tokens_total", drawn)
        self.add("vllm:request_queue_time_seconds_count", 1)
        self.add("powercut:answer_tokens_total", usage["completion_tokens"], method=method)
        for name in (*CHAIN_COUNTS, "discarded_tokens"):
            self.add(f"powercut:{name}_total", power[name] if power else 0, method=method)
        for choice in choices:
            ended_by = choice["power"]["ended_by"] if power else "completed"
            self.add("powercut:answers_total", 1, method=method, ended_by=ended_by)
            self.add("vllm:request_success_total", 1, finished_reason=choice["finish_reason"])

    def same(self, asked: Mapping[str, Any], choices: Iterable[Mapping[str, Any]]) -> None:
        """A seed fixes what a request is answered: whenever, beside whomever, over HTTP or as a row."""
        key = json.dumps({name: value for name, value in asked.items() if name not in STREAM_FIELDS}, sort_keys=True)
        found = json.dumps([essence(choice) for choice in choices])
        assert self.answers.setdefault(key, found) == found, f"the seed fixes the answer to {key}"


STREAM_FIELDS = {"stream", "stream_options"}


def essence(choice: Mapping[str, Any]) -> Any:
    """What a seed fixes of an answer: the text, and the ids where they are told."""
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    return choice["finish_reason"], text, choice["power"]["token_ids"] if choice.get("power") else None


def scraped(text: str) -> Counter[Series]:
    """The counters of a `/metrics` page that clients can count too."""
    found: Counter[Series] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in COUNTED and sample.value:
                labels = {name: value for name, value in sample.labels.items() if name != "model_name"}
                found[series(sample.name, **labels)] += int(sample.value)
    return found


def from_log(lines: Iterable[Mapping[str, Any]], left: set[str]) -> Counter[Series]:
    """What the log says of requests whose clients left, and which of all requests were work."""
    tally = Tally()
    for line in lines:
        tally.add("vllm:e2e_request_latency_seconds_count", "waited_s" in line)
        if line["id"] not in left:
            continue
        tally.reply(line["route"], line["status"])
        tally.add("vllm:prompt_tokens_total", line.get("prompt_tokens", 0))
        tally.add("vllm:generation_tokens_total", line.get("generated_tokens", 0))
        tally.add("vllm:request_queue_time_seconds_count", line.get("waited_s") is not None)
    return tally.counts
