"""Who runs now, who waits, and who is told to come back: counted in the tokens that a request may draw at worst.

One request may cost a thousand times another, so neither connections nor requests tell how full a server is. A request
is counted before anything costly is done for it, and given back exactly once. Whoever waits is served in turn: keys
take turns, each in the order of its requests, interactive ones before rows of batch jobs. Nobody overtakes: if the one
whose turn it is does not fit yet, those behind it wait too, so that a large request is served as surely as a small one.
"""

import asyncio
import enum
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from time import monotonic

from sampler.engine import Priority
from service.errors import ApiError
from service.settings import Settings

REMEMBERED = 64
"""Finished requests from which the pace of the server is told."""
LONGEST_S = 600
GUESS_S = 5
"""`Retry-After` before anything has finished."""


class State(enum.Enum):
    """Where a request is."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    OVER = enum.auto()


class Ticket:
    """One request's place: wait for `granted`, and `release` it whatever happens."""

    def __init__(self, admission: "Admission", key: str, tokens: int, priority: Priority) -> None:
        self.key, self.tokens, self.priority = key, tokens, priority
        self.state = State.WAITING
        self._admission = admission
        self.turn: asyncio.Event = asyncio.Event()

    async def granted(self) -> None:
        """Wait until the request may run."""
        await self.turn.wait()

    def release(self, *, done: bool = False) -> None:
        """Give the place back; a second time does nothing. `done` says that its work was done, not given up."""
        self._admission.leave(self, done=done)


class Admission:
    """The account of one server; for one event loop."""

    def __init__(
        self,
        settings: Settings,
        refused: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.settings = settings
        self.running_tokens = self.running_requests = self.batch_tokens = 0
        self._waiting_tokens, self._waiting_requests = Counter[Priority](), Counter[Priority]()
        self._running_of = Counter[str]()
        self._waiting = {priority: OrderedDict[str, deque[Ticket]]() for priority in Priority}
        self._refused, self._clock = refused, clock
        self._busy_s, self._busy_since = 0.0, 0.0
        # Busy seconds at the end of a request, and its tokens; the first only tells since when the others count.
        self._finished = deque([(0.0, 0)], maxlen=REMEMBERED + 1)

    @property
    def queued_tokens(self) -> int:
        """The tokens of all that wait."""
        return self._waiting_tokens.total()

    @property
    def queued_requests(self) -> int:
        """How many wait, rows of batch jobs included."""
        return self._waiting_requests.total()

    @property
    def busy_s(self) -> float:
        """Seconds in which something ran: what pace is told over, since idle hours say nothing of it."""
        return self._busy_s + (self._clock() - self._busy_since if self.running_requests else 0.0)

    def enter(self, key: str, tokens: int, priority: Priority = Priority.INTERACTIVE) -> Ticket:
        """A place for a request of so many tokens, running or waiting.

        Raises:
            ApiError: 422 if it is too large ever to run here, 429 if too much waits already. Rows of batch jobs are
                never refused for the queue's length: whoever runs the job sees to it that few of them wait.
        """
        limits = self.settings
        if tokens > limits.max_running_tokens:
            self._refused("too_large")
            raise too_large(tokens, limits.max_running_tokens)
        ticket = Ticket(self, key, tokens, priority)
        self._waiting[priority].setdefault(key, deque()).append(ticket)
        self._count_waiting(ticket, 1)
        self._serve()
        if ticket.state is State.WAITING and priority is Priority.INTERACTIVE:
            self._refuse_if_full(ticket)
        return ticket

    def leave(self, ticket: Ticket, *, done: bool = False) -> None:
        """The request is over, or nobody waits for it any more; only one that is `done` tells of the pace."""
        was, ticket.state = ticket.state, State.OVER
        if was is State.WAITING:
            self._forget(ticket)
        elif was is State.RUNNING:
            self._count_running(ticket, -1)
            if done:
                self._finished.append((self.busy_s, ticket.tokens))
        if was is not State.OVER:
            self._serve()

    def retry_after_s(self) -> int:
        """Seconds until what is ahead now has probably run, at the pace of the last requests.

        Rows of batch jobs that wait are not ahead: interactive requests go first.
        """
        (since, _), *finished = self._finished
        if not finished:
            return GUESS_S
        pace = sum(tokens for _, tokens in finished) / max(self.busy_s - since, 1e-3)
        ahead = self._waiting_tokens[Priority.INTERACTIVE] + self.running_tokens
        return max(1, min(LONGEST_S, math.ceil(ahead / max(pace, 1e-9))))

    def _refuse_if_full(self, ticket: Ticket) -> None:
        limits, mine = self.settings, ticket.priority
        of_key = len(self._waiting[mine].get(ticket.key, ()))
        checks = (
            ("queue_requests", self._waiting_requests[mine], limits.max_queued_requests, "max_queued_requests"),
            ("queue_tokens", self._waiting_tokens[mine], limits.max_queued_tokens, "max_queued_tokens"),
            ("key_requests", of_key, limits.max_queued_requests_per_key, "max_queued_requests_per_key"),
        )
        for reason, seen, limit, name in checks:
            if seen > limit:
                self.leave(ticket)
                self._refused(reason)
                message = f"no more can wait now: {name} is {limit}; come back in {self.retry_after_s()} s"
                raise ApiError(
                    429, message, code=f"{reason}_limit", kind="rate_limit_error", retry_after_s=self.retry_after_s()
                )

    def _serve(self) -> None:
        while (ticket := self._next()) is not None and self._fits(ticket):
            self._forget(ticket)
            turns = self._waiting[ticket.priority]
            if ticket.key in turns:
                turns.move_to_end(ticket.key)
            ticket.state = State.RUNNING
            self._count_running(ticket, 1)
            ticket.turn.set()

    def _next(self) -> Ticket | None:
        """Whose turn it is: of the keys that may run one more, the one that was served longest ago."""
        for priority in Priority:
            for key, queue in self._waiting[priority].items():
                limit = self.settings.max_running_requests_per_key
                if priority is not Priority.INTERACTIVE or self._running_of[key] < limit:
                    return queue[0]
        return None

    def _fits(self, ticket: Ticket) -> bool:
        limits = self.settings
        share = limits.batch_share * limits.max_running_tokens
        if ticket.priority is not Priority.INTERACTIVE and 0 < self.batch_tokens > share - ticket.tokens:
            return False
        return (
            self.running_requests < limits.max_running_requests
            and self.running_tokens + ticket.tokens <= limits.max_running_tokens
        )

    def _forget(self, ticket: Ticket) -> None:
        queue = self._waiting[ticket.priority][ticket.key]
        queue.remove(ticket)
        if not queue:
            del self._waiting[ticket.priority][ticket.key]
        self._count_waiting(ticket, -1)

    def _count_waiting(self, ticket: Ticket, sign: int) -> None:
        self._waiting_tokens[ticket.priority] += sign * ticket.tokens
        self._waiting_requests[ticket.priority] += sign

    def _count_running(self, ticket: Ticket, sign: int) -> None:
        self._busy_s, self._busy_since = self.busy_s, self._clock()
        self.running_tokens += sign * ticket.tokens
        self.running_requests += sign
        if ticket.priority is Priority.INTERACTIVE:
            self._running_of[ticket.key] += sign
            if not self._running_of[ticket.key]:
                del self._running_of[ticket.key]
        else:
            self.batch_tokens += sign * ticket.tokens


def too_large(tokens: int, limit: int) -> ApiError:
    """422 for a request that could wait for ever."""
    message = (
        f"max_tokens: this request may draw {tokens} tokens at worst, its answers and steps counted, and this server "
        f"lets no more than {limit} run; lower max_tokens, n or the steps, or set power.max_generated_tokens"
    )
    return ApiError(422, message, param="max_tokens", code="request_too_large")
