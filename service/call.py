"""What the service knows of one request while it is there: who asks, since when, until when, and what it has got to."""

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from sampler.answer import Answer
from sampler.engine import Priority
from sampler.events import Event, Kept, Stepped
from service.keys import ANONYMOUS


@dataclass(slots=True)
class Reached:
    """How far a request's answers have come, over all of them."""

    answers: int = 0
    finished: int = 0
    stage: int = 0
    stages: int = 0
    steps: int = 0
    generated_tokens: int = 0
    answer_tokens: int = 0
    prompt_tokens: int = 0
    waited_s: float | None = None
    """Seconds until the request was let run; None while it waits."""

    def see(self, event: Event, new_tokens: int) -> None:
        """Take what a chain has just done."""
        self.stage, self.stages = max(self.stage, event.stage), event.stages
        self.steps += isinstance(event, Stepped | Kept)
        self.generated_tokens += new_tokens

    def end(self, answer: Answer, seen_tokens: int) -> None:
        """Take an answer, of whose tokens its chain's events told so many."""
        self.finished += 1
        self.answer_tokens += len(answer.trace)
        self.generated_tokens += max(0, answer.usage.generated_tokens - seen_tokens)

    def report(self) -> dict[str, Any]:
        """What an error says of work that was cut off."""
        return {
            "state": "waiting" if self.waited_s is None else "running",
            "answers_finished": self.finished,
            "answers": self.answers,
            "stage": self.stage,
            "stages": self.stages,
            "steps": self.steps,
            "generated_tokens": self.generated_tokens,
        }

    def cost(self) -> dict[str, Any]:
        """What a log line says of the work."""
        return {
            "waited_s": None if self.waited_s is None else round(self.waited_s, 6),
            "answers": self.finished,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "generated_tokens": self.generated_tokens,
            "steps": self.steps,
        }


@dataclass(slots=True, eq=False)
class Call:
    """One request, by HTTP or a row of a batch job.

    `arrived` is the loop's time; `timeout_s` None means that nothing but a client's own deadline ends it.
    """

    key: str = ANONYMOUS
    priority: Priority = Priority.INTERACTIVE
    timeout_s: float | None = None
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    arrived: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    began: float = field(default_factory=time.time)
    reached: Reached = field(default_factory=Reached)
    facts: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """What its log line says beside the usual."""
    is_cut: bool = False
    _ends: list[Callable[[], None]] = field(default_factory=lambda: list[Callable[[], None]]())
    _cuts: list[Callable[[], None]] = field(default_factory=lambda: list[Callable[[], None]]())

    @property
    def elapsed_s(self) -> float:
        """Seconds since it arrived."""
        return asyncio.get_running_loop().time() - self.arrived

    def at_end(self, free: Callable[[], None]) -> None:
        """Call `free` when the request is over, however it ends. It may be called more than once."""
        self._ends.append(free)

    def at_cut(self, stop: Callable[[], None]) -> None:
        """Call `stop` if the server cuts the request off because it stops itself."""
        self._cuts.append(stop)
        if self.is_cut:
            stop()

    def cut(self) -> None:
        """Cut the request off."""
        self.is_cut = True
        for stop in self._cuts:
            stop()

    def end(self) -> None:
        """The request is over."""
        while self._ends:
            self._ends.pop()()


def call_of(request: Request) -> Call:
    """The call that the middleware made of a request."""
    return request.scope["state"]["call"]
