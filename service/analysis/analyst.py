"""Who may compute now, for how long, and how it looks from outside when it fails."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from service.analysis.frame import Analysis, AnalysisError, AnalysisRequest, load_registry
from service.analysis.pool import Pool, Progress, Task, WorkerDied, WorkFailed
from service.analysis.run import SEED_BITS, Outcome, choose_seed
from service.errors import ApiError, describe_validation
from service.settings import Settings

PREFIX = "/v1/analysis/"
REGISTRY = "service.analysis:ANALYSES"
RowHandler = Callable[[dict[str, Any], Any], Awaitable[dict[str, Any]]]
"""A row's body and context to its reply, as the batch jobs call it."""


class Busy(Exception):
    """As many analyses run as may; try again later."""


class Analyst:
    """Runs analyses in child processes: some at once for requests, some for rows of batches, which wait their turn."""

    def __init__(self, settings: Settings, registry: str = REGISTRY) -> None:
        self.settings = settings
        self.analyses = load_registry(registry)
        self.pool = Pool(registry, settings.analysis_memory_bytes, settings.analysis_workers)
        self.running = 0
        self._job_slots = asyncio.Semaphore(settings.analysis_job_workers)

    async def analyse(
        self, name: str, body: Mapping[str, Any], *, job: bool = True, progress: Progress | None = None
    ) -> dict[str, Any]:
        """The reply to a body that nobody has checked yet, as a row of a batch has it.

        Args:
            name: The path after `/v1/analysis/`.
            body: The request. Without a `seed` one is drawn; a caller that may run it twice adds one first.
            job: Wait for a turn among the jobs and run under their time limit, instead of the requests'.
            progress: Told the done fraction and a note.

        Raises:
            ApiError: With the status and message that the HTTP route would have sent.
            Busy: Only with `job=False`.
        """
        if name not in self.analyses:
            raise ApiError(404, f"there is no analysis {name!r}; see GET /v1/analysis", code="not_found")
        analysis = self.analyses[name]
        try:
            request = analysis.request.model_validate(dict(body))
        except ValidationError as error:
            found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
            status, shown = describe_validation(found)
            wrong = shown["error"]
            raise ApiError(status, wrong["message"], param=wrong["param"], code=wrong["code"]) from None
        outcome = await self.run(analysis, request, job=job, progress=progress)
        return json.loads(outcome.reply)

    def row_handlers(self, seed_of: Callable[[Any], int]) -> dict[str, RowHandler]:
        """How a row of a batch is answered, by its url.

        Args:
            seed_of: The seed of a row without one, from the row's context: the same if the row is run again.
        """

        def handler(analysis: Analysis[Any, Any]) -> RowHandler:
            async def answer(body: dict[str, Any], context: Any) -> dict[str, Any]:
                if analysis.seeded and body.get("seed") is None:
                    body = {**body, "seed": seed_of(context) % (1 << SEED_BITS)}
                return await self.analyse(analysis.name, body)

            return answer

        return {PREFIX + name: handler(analysis) for name, analysis in self.analyses.items()}

    async def run(
        self,
        analysis: Analysis[Any, Any],
        request: AnalysisRequest,
        *,
        picture: bool = False,
        job: bool = False,
        progress: Progress | None = None,
    ) -> Outcome:
        """The outcome of a valid request. Cancelling this kills the process. Raises as `analyse`."""
        body = request.model_dump_json(exclude_unset=True).encode()  # what was not said stays unsaid
        task = Task(analysis, body, choose_seed(analysis, request), picture)
        if job:
            async with self._job_slots:
                return await self._run(task, self.settings.analysis_job_time_limit_s, progress)
        if analysis.job_only:
            message = f"{analysis.name} takes too long for a request: send it as a row of a batch, by /v1/batches"
            raise ApiError(422, message, code="job_only")
        if self.running >= self.settings.analysis_workers:
            raise Busy
        self.running += 1
        try:
            return await self._run(task, self.settings.analysis_time_limit_s, progress)
        finally:
            self.running -= 1

    async def _run(self, task: Task, time_limit_s: float, progress: Progress | None) -> Outcome:
        name = task.analysis.name
        try:
            return await self.pool.run(task, time_limit_s, progress)
        except AnalysisError as error:
            raise ApiError(error.status, str(error), param=error.field, code=error.code) from None
        except TimeoutError:
            message = f"{name} did not end within {time_limit_s:g} s; ask for less, or send it as a row of a batch"
            raise ApiError(504, message, code="analysis_timeout") from None
        except WorkerDied:
            message = f"the process that computed {name} died; the next request gets a new one"
            raise ApiError(503, message, code="worker_died") from None
        except WorkFailed as error:
            if error.reason == "out_of_memory":
                limit = self.settings.analysis_memory_bytes
                raise ApiError(503, f"{name} needs more than the {limit} bytes it may use", code=error.reason) from None
            raise ApiError(500, f"the server failed on this {name}", code=error.reason) from None

    async def aclose(self) -> None:
        """End every process."""
        await self.pool.aclose()
