"""How a row of each endpoint is answered: one mapping from url to handler, which the application fills.

A handler takes a row's body and its `RowContext` and returns the reply's body, as the endpoint itself would. It raises
what the endpoint would raise. Handlers that run long call `context.checkpoint` where they could go on from.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from sampler.engine import Priority
from sampler.events import Event
from sampler.methods.job import Job
from sampler.state import ChainState
from sampler.tree import MemoTree
from service.api.requests import ChatRequest, CompletionRequest
from service.call import Call
from service.complete import complete
from service.errors import ApiError, describe_validation
from service.jobs.outcome import request_id, row_seed
from service.jobs.rows import Key
from service.jobs.saved import SavedAnswer
from service.plan import Asked, Plan
from service.runner import Runner


@dataclass(slots=True)
class RowContext:
    """What a handler may know of a row, and where it says how far it has come."""

    key: Key
    owner: str
    saved: dict[int, SavedAnswer] = field(default_factory=lambda: dict[int, SavedAnswer]())
    """Each answer's last finished stage; what is here when the row begins was saved before a crash."""
    changed: Callable[[], None] = lambda: None
    """Called when `saved` has changed."""

    def checkpoint(self, index: int, answer: SavedAnswer) -> None:
        """Answer number `index` has finished a stage."""
        self.saved[index] = answer
        self.changed()


RowHandler = Callable[[dict[str, Any], RowContext], Awaitable[dict[str, Any]]]
RowHandlers = Mapping[str, RowHandler]
NEEDS_MODEL = ("/v1/completions", "/v1/chat/completions")
"""Endpoints whose rows only a server of the same model may run."""


class RowRunner(Runner):
    """The application's runner for one row: below interactive requests, checkpointing, going on from where it was."""

    def __init__(self, runner: Runner, context: RowContext) -> None:
        self.house, self._context = runner.house, context
        self.call = self._call = Call(
            key=context.owner, priority=Priority.BATCH, timeout_s=None, request_id=request_id(context.key)
        )

    async def plan(self, asked: Asked) -> Plan:
        """The plan, its seeds fixed by the row so that it can be run again."""
        plan = await super().plan(asked)
        if asked.seed is not None:
            return plan
        seeds = [row_seed(self._context.key, prompt) for prompt in range(len(plan.prompts))]
        return replace(plan, seeds=seeds, seeded=True)

    def _job(self, plan: Plan, prompt: int, chain: int, tree: MemoTree, events: list[Event]) -> Job:
        index, context = prompt * plan.n + chain, self._context
        before = context.saved.get(index)

        def checkpoint(state: ChainState) -> None:
            context.checkpoint(index, SavedAnswer(state, tuple(events)))

        job = super()._job(plan, prompt, chain, tree, events)
        if before is None:
            return replace(job, checkpoint=checkpoint)
        events.extend(before.events)
        return replace(job, checkpoint=checkpoint, resume=before.state)


def generated_rows(runner: Runner) -> dict[str, RowHandler]:
    """The rows that the engine answers."""
    return {
        "/v1/completions": rows_of(runner, CompletionRequest),
        "/v1/chat/completions": rows_of(runner, ChatRequest),
    }


def rows_of(runner: Runner, schema: type[CompletionRequest] | type[ChatRequest]) -> RowHandler:
    """Rows with bodies of one schema."""

    async def answer(body: dict[str, Any], context: RowContext) -> dict[str, Any]:
        asked = validated(schema, body)
        refuse_streams(asked.stream)
        row = RowRunner(runner, context)
        try:
            return await complete(row, asked)
        finally:
            row.call.end()

    return answer


class InvalidBody(Exception):
    """A row's body does not fit the endpoint's schema; `status` and `content` are the endpoint's own error."""

    def __init__(self, status: int, content: dict[str, Any]) -> None:
        super().__init__(content["error"]["message"])
        self.status, self.content = status, content


def validated(model: Any, body: dict[str, Any]) -> Any:
    """The body as the endpoint reads it; raises `InvalidBody` as the endpoint would answer."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise InvalidBody(*describe_validation(found, body)) from None


def refuse_streams(stream: bool) -> None:
    """A row is one line: it cannot be a stream."""
    if stream:
        raise ApiError(422, "stream: a row of a batch does not stream", param="stream")
