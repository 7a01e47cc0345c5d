"""Who may compute now, for how long, and how it looks from outside when it fails."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from service.analysis.frame import About, Analysis, AnalysisError, AnalysisRequest, load_registry
from service.analysis.metering import BudgetSpent, Charge, Ledger, ReleaseMismatch, Stored
from service.analysis.pool import Pool, Progress, Task, WorkerDied, WorkFailed
from service.analysis.run import Outcome, choose_seed
from service.errors import ApiError, describe_validation
from service.seed import SEED_BITS
from service.settings import Settings

log = logging.getLogger("powercut.analysis")
PREFIX = "/v1/analysis/"
REGISTRY = "service.analysis:ANALYSES"
RowHandler = Callable[[dict[str, Any], Any], Awaitable[dict[str, Any]]]
"""A row's body and context to its reply, as the batch jobs call it."""


class Busy(Exception):
    """As many analyses run as may; try again later."""


class Caller(NamedTuple):
    """Who asks.

    Attributes:
        owner: The name of the key, whose privacy budgets these are.
        call_id: Of the row of a batch, the same whenever the row runs again; names its release.
    """

    owner: str = "anonymous"
    call_id: str | None = None


class Analyst:
    """Runs analyses in child processes: some at once for requests, some for rows of batches, which wait their turn.

    Args:
        settings: The limits.
        registry: Where the analyses are, as `module:name`.
        ledger: Keeps privacy budgets; without one, what would cost some is refused.
        checkpoint: Folder or Hugging Face name of the served model.
    """

    def __init__(
        self,
        settings: Settings,
        registry: str = REGISTRY,
        *,
        ledger: Ledger | None = None,
        checkpoint: str | None = None,
    ) -> None:
        self.settings, self.ledger = settings, ledger
        self.about = About(checkpoint=checkpoint)
        self.analyses = load_registry(registry)
        self.pool = Pool(registry, settings.analysis_memory_bytes, settings.analysis_workers)
        self.running = 0
        self._job_slots = asyncio.Semaphore(settings.analysis_job_workers)

    async def analyse(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        job: bool = True,
        progress: Progress | None = None,
        caller: Caller | None = None,
    ) -> dict[str, Any]:
        """The reply to a body that nobody has checked yet, as a row of a batch has it.

        Args:
            name: The path after `/v1/analysis/`.
            body: The request. Without a `seed` one is drawn; a caller that may run it twice adds one first.
            job: Wait for a turn among the jobs and run under their time limit, instead of the requests'.
            progress: Told the done fraction and a note.
            caller: Who asks; nobody in particular if left out.

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
            status, shown = describe_validation(found, body)
            wrong = shown["error"]
            raise ApiError(status, wrong["message"], param=wrong["param"], code=wrong["code"]) from None
        outcome = await self.run(analysis, request, job=job, progress=progress, caller=caller)
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
                caller = Caller(context.owner, f"{context.key.batch_id}/{context.key.number}")
                progress = log_tenths(f"{analysis.name}, row {caller.call_id}")
                return await self.analyse(analysis.name, body, progress=progress, caller=caller)

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
        caller: Caller | None = None,
    ) -> Outcome:
        """The outcome of a valid request. Cancelling this kills the process. Raises as `analyse`."""
        seed = choose_seed(analysis, request)
        body = request.model_dump_json(exclude_unset=True).encode()  # what was not said stays unsaid
        task = Task(analysis, body, seed, picture, self.about)
        caller = caller or Caller()
        try:
            charge = None if analysis.charge is None else analysis.charge(request)
        except AnalysisError as error:
            raise refusal(error) from None
        if job:
            async with self._job_slots:
                limit = self.settings.analysis_job_time_limit_s
                return await self._run(task, limit, progress, charge, caller)
        if analysis.job_only:
            message = f"{analysis.name} takes too long for a request: send it as a row of a batch, by /v1/batches"
            raise ApiError(422, message, code="job_only")
        if self.running >= self.settings.analysis_workers:
            raise Busy
        self.running += 1
        try:
            return await self._run(task, self.settings.analysis_time_limit_s, progress, charge, caller)
        finally:
            self.running -= 1

    async def _run(
        self, task: Task, time_limit_s: float, progress: Progress | None, charge: Charge | None, caller: Caller
    ) -> Outcome:
        if charge is None:
            return await self._compute(task, time_limit_s, progress)
        if self.ledger is None:
            message = "this server keeps no ledger of privacy budgets; without one nothing private is released"
            raise ApiError(503, message, code="no_ledger")
        charge = replace(charge, release_id=charge.release_id or caller.call_id)
        try:
            account = await asyncio.to_thread(self.ledger.debit, caller.owner, charge)
        except BudgetSpent as error:
            raise ApiError(403, f"privacy: {error}", param="privacy", code="privacy_budget_spent") from None
        except ReleaseMismatch as error:
            raise ApiError(409, f"release_id: {error}", param="release_id", code="release_mismatch") from None
        stored = account.stored
        if stored is None:
            about = task.about.model_copy(update={"release_id": account.release_id, "budget": account.remaining})
            outcome = await self._compute(task._replace(about=about, picture=True), time_limit_s, progress)
            release = Stored(outcome.reply, outcome.picture or b"")
            settle = self.ledger.settle
            stored = await asyncio.to_thread(settle, caller.owner, charge.dataset_id, account.release_id, release)
        return Outcome(stored.reply, stored.picture if task.picture else None)

    async def _compute(self, task: Task, time_limit_s: float, progress: Progress | None) -> Outcome:
        name = task.analysis.name
        try:
            return await self.pool.run(task, time_limit_s, progress)
        except AnalysisError as error:
            raise refusal(error) from None
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


def log_tenths(what: str) -> Progress:
    """A line of the log for each tenth that is done, without the note: a row's reply may come hours later."""
    logged = 0

    def progress(fraction: float, note: str) -> None:
        nonlocal logged
        if (tenths := int(10 * fraction + 1e-9)) > logged:
            logged = tenths
            log.info("%s: %d %% done", what, 10 * tenths)

    return progress


def refusal(error: AnalysisError) -> ApiError:
    """As HTTP says it."""
    return ApiError(error.status, str(error), param=error.field, code=error.code)
