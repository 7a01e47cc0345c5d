"""What a run is: everything that its answers depend on, as plain data that can be compared with another run's."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from evals.problem import Problem, Prompt

SEED_BITS = 63
NAMED_DIFFERENCES = 6
"""Differences between two runs' settings that a message names."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer: a method of powercut, plain sampling, or another server's model.

    Attributes:
        name: What records and reports call it.
        power: The `power` object that is sent, None for plain sampling.
        temperature: Of plain sampling; None leaves it to the server.
        top_p: Of plain sampling; None leaves it to the server.
        model: The model's id on its server.
        url: Its server, None for the run's own.
        capped: Whether it is held to the reference arm's cost, where there is a reference.
    """

    name: str
    power: Mapping[str, Any] | None
    temperature: float | None = None
    top_p: float | None = None
    model: str = ""
    url: str | None = None
    capped: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a run's answers depend on. URLs, keys, concurrency and time limits are not in it.

    Attributes:
        reference: The arm whose cost on a problem is every arm's budget there; None: no budgets.
        problems: How many problems: the first ones of the data.
        repeats: Answers to each problem by each arm.
        logprobs: Whether log-probabilities are asked for, which gives Σ log p.
        max_stops: Stop strings sent at most, None for all.
        grading: What `Grading.describe` says.
        probe: How divergence is measured, None for other runs.
    """

    benchmark: str
    data_sha256: str
    data_source: str
    data_revision: str
    arms: tuple[Arm, ...]
    reference: str | None
    problems: int
    repeats: int
    seed: int
    max_tokens: int
    prompt_style: str
    template_sha256: str | None
    logprobs: bool
    max_stops: int | None
    grading: Mapping[str, Any] = field(default_factory=dict[str, Any])
    probe: Mapping[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return json.loads(json.dumps(asdict(self)))

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to be continued: all but where the servers are."""
        found = self.plain()
        for arm in found["arms"]:
            del arm["url"]
        return found

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Where two identities differ, as `field: old → new`."""
    before, after = flatten(old), flatten(new)
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    told = [f"{name}: {json.dumps(before.get(name))} → {json.dumps(after.get(name))}" for name in names]
    more = len(told) - NAMED_DIFFERENCES
    return told[:NAMED_DIFFERENCES] + ([f"and {more} more"] if more > 0 else [])


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping with dotted names."""
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, each in parts:
        found |= flatten(each, f"{name}.{key}" if name else str(key))
    return found


def answer_seed(seed: int, problem: str, repeat: int) -> int:
    """The seed of one answer: its own for each problem and repeat, the same for every arm.

    One seed for all problems would tie their errors together on servers that key draws by the seed alone, and every
    interval would be too narrow.
    """
    digest = hashlib.blake2b(f"{seed}\0{problem}\0{repeat}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SEED_BITS)


def request_body(
    settings: Settings, arm: Arm, prompt: Prompt, problem: Problem, repeat: int, budget: int | None
) -> tuple[str, dict[str, Any]]:
    """The path and body of one answer's request.

    A budget in tokens becomes `power.max_generated_tokens`; best_of_n without `samples` turns it into as many draws as
    it buys. Plain sampling can only be cut short by it.
    """
    longest = settings.max_tokens
    body: dict[str, Any] = {"model": arm.model, "seed": answer_seed(settings.seed, problem.id, repeat)}
    if arm.power is not None:
        limit = {} if budget is None else {"max_generated_tokens": budget}
        body["power"] = {**arm.power, **limit}
    elif budget is not None:
        longest = min(longest, budget)
    body["max_tokens"] = longest
    if stops := list(prompt.stops[: settings.max_stops]):
        body["stop"] = stops
    for name in ("temperature", "top_p"):
        if (value := getattr(arm, name)) is not None:
            body[name] = value
    if prompt.messages is not None:
        logprobs = {"logprobs": True} if settings.logprobs else {}
        return "/v1/chat/completions", body | logprobs | {"messages": [dict(each) for each in prompt.messages]}
    return "/v1/completions", body | ({"logprobs": 0} if settings.logprobs else {}) | {"prompt": prompt.text}


def versions(server: Any) -> dict[str, Any]:
    """What produced a record, beside the model: our own version, Python's and what the server says of its own."""
    try:
        own = version("powercut")
    except PackageNotFoundError:
        own = "unknown"
    return {"powercut": own, "python": platform.python_version(), "server": server}
