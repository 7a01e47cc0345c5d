"""What `/metrics` says, in Prometheus' form: vLLM's names where it has them, `powercut:` for what only chains have.

Each application has a registry of its own, so that two in one process do not mix.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sampler.answer import Answer, PowerUsage
from sampler.events import Event, Stepped

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
TENTHS = tuple(i / 10 for i in range(1, 11))
CHAIN_COUNTERS: dict[str, str] = {
    "steps": "Metropolis-Hastings steps decided",
    "accepted": "proposals accepted",
    "moved": "steps that changed the trace",
    "rejected_early": "proposals dropped before their end because they were lost",
    "non_finite": "proposals rejected because their ratio was no finite number",
    "free_tokens": "tokens drawn from rows already known, at no cost",
    "prefetched_tokens": "tokens drawn ahead and dropped",
}
"""Fields of `PowerUsage` that are counted by method."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What is read at the moment somebody asks."""

    running: Callable[[], float]
    waiting: Callable[[], float]
    running_tokens: Callable[[], float]
    queued_tokens: Callable[[], float]
    chains: Callable[[], float]
    alive: Callable[[], float]


class Telemetry:
    """Counters of one application."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self.everywhere: Callable[[], Awaitable[bytes]] | None = None
        """Tells for all replicas of this application, where there are several behind one address."""
        self._model = model
        self.requests = self._counter("powercut:http_requests", "requests by route and status", "route", "status")
        self.latency = self._histogram("vllm:e2e_request_latency_seconds", "seconds from arrival to end", SECONDS)
        self.queue_time = self._histogram("vllm:request_queue_time_seconds", "seconds until a request ran", SECONDS)
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "prompt tokens of requests that ran")
        self.generation_tokens = self._counter("vllm:generation_tokens", "tokens that the engine drew for chains")
        self.success = self._counter("vllm:request_success", "answers finished", "finished_reason")
        self.answer_tokens = self._counter("powercut:answer_tokens", "tokens of answers", "method")
        self.discarded = self._counter("powercut:discarded_tokens", "tokens drawn that are in no answer", "method")
        self.ended = self._counter("powercut:answers", "answers finished", "method", "ended_by")
        self.cuts = self._histogram(
            "powercut:cut_position", "cut position as a share of the trace's length", TENTHS, "method"
        )
        self.batch_rows = self._counter("powercut:batch_rows", "rows of batches, by what became of them here", "event")
        self.rejections = self._counter("powercut:admission_rejections", "requests not let in", "reason")
        self.failures = self._counter("powercut:engine_failures", "engine calls that failed, by kind", "kind")
        self.calls = self._counter("powercut:engine_calls", "engine calls begun")
        self.chain_counts = {
            name: self._counter(f"powercut:{name}", text, "method") for name, text in CHAIN_COUNTERS.items()
        }

    def observe(self, sources: Sources) -> None:
        """Add gauges that are read from what they measure."""
        gauges = {
            "vllm:num_requests_running": ("requests that run", sources.running),
            "vllm:num_requests_waiting": ("requests that wait", sources.waiting),
            "powercut:running_tokens": ("tokens that running requests may draw at worst", sources.running_tokens),
            "powercut:queued_tokens": ("tokens that waiting requests may draw at worst", sources.queued_tokens),
            "powercut:chains_in_flight": ("chains, particle systems and plain draws that run", sources.chains),
            "powercut:engine_alive": ("1, and 0 once the engine has died for good", sources.alive),
        }
        for name, (text, read) in gauges.items():
            gauge = Gauge(name, text, ["model_name"], registry=self.registry)
            gauge.labels(self._model).set_function(read)

    def follow(self, method: str, drawn: int = 0) -> Callable[[Event], int]:
        """What takes one chain's events: counts its cuts and tokens, and returns the tokens drawn since the last.

        `drawn` are tokens of a resumed chain that were drawn, and counted, before.
        """
        cuts, tokens, seen = self.cuts.labels(self._model, method), self.generation_tokens.labels(self._model), drawn

        def take(event: Event) -> int:
            nonlocal seen
            new, seen = event.generated_tokens - seen, event.generated_tokens
            tokens.inc(new)
            if isinstance(event, Stepped):
                cuts.observe(event.cut / max(1, event.length))
            return new

        return take

    def finished(self, method: str, answer: Answer, reason: str, drawn: int) -> None:
        """Count an answer, of whose tokens `drawn` have been counted already."""
        usage, length = answer.usage, len(answer.trace)
        self.generation_tokens.labels(self._model).inc(max(0, usage.generated_tokens - drawn))
        self.success.labels(self._model, reason).inc()
        self.ended.labels(self._model, method, str(answer.ended_by)).inc()
        self.answer_tokens.labels(self._model, method).inc(length)
        self.discarded.labels(self._model, method).inc(max(0, usage.generated_tokens + usage.free_tokens - length))
        self._count(method, usage)

    def replied(self, route: str, status: int, seconds: float | None) -> None:
        """Count a request; `seconds` None for one that is no work."""
        self.requests.labels(self._model, route, str(status)).inc()
        if seconds is not None:
            self.latency.labels(self._model).observe(seconds)

    def waited(self, seconds: float) -> None:
        """A request that begins to run."""
        self.queue_time.labels(self._model).observe(seconds)

    def prompted(self, tokens: int) -> None:
        """The prompt tokens of a request that begins to run."""
        self.prompt_tokens.labels(self._model).inc(tokens)

    def row(self, event: str) -> None:
        """A row of a batch is `done`, has `failed`, or was `resumed` after whoever ran it had gone."""
        self.batch_rows.labels(self._model, event).inc()

    def observe_rows(self, count: Callable[[str], float]) -> None:
        """Add the gauge of rows that wait or run, on all servers of one database together."""
        gauge = Gauge("powercut:batch_rows_now", "rows of batches", ["model_name", "state"], registry=self.registry)
        for state in ("waiting", "running"):
            gauge.labels(self._model, state).set_function(lambda state=state: count(state))

    def refused(self, reason: str) -> None:
        """A request that was not let in."""
        self.rejections.labels(self._model, reason).inc()

    def failed(self, kind: str) -> None:
        """An engine call that failed."""
        self.failures.labels(self._model, kind).inc()

    def called(self) -> None:
        """An engine call."""
        self.calls.labels(self._model).inc()

    async def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry) if self.everywhere is None else await self.everywhere()

    def _count(self, method: str, usage: PowerUsage) -> None:
        for name, counter in self.chain_counts.items():
            if value := getattr(usage, name):
                counter.labels(self._model, method).inc(value)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["model_name", *labels], registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, ["model_name", *labels], buckets=buckets, registry=self.registry)
