"""The worker: one thread that owns the model.

Each turn admits waiting work, computes at most one chunk of a long prompt, and draws one token for every running row,
so that nobody waits for anybody's prompt or answer to end.
"""

import heapq
import itertools
import threading

import torch

from sampler.engine import Priority, Support
from sampler.engines.transformers.batch import Batch
from sampler.engines.transformers.heads import Heads
from sampler.engines.transformers.model import Model
from sampler.engines.transformers.work import Proposal, Scoring, translate
from sampler.errors import EngineDead
from sampler.trace import End, Token

CHUNK = 64
"""Tokens of a prompt computed between two tokens of the running rows."""
CLOSE_S = 10.0
"""Seconds that the thread gets to end: far longer than a forward pass."""


class Worker:
    """Runs proposals in one batch. `submit` may be called from any thread."""

    def __init__(self, model: Model, max_rows: int, kv_bytes: int) -> None:
        self.model = model
        self.batch = Batch(model, max_rows, kv_bytes)
        self._staging = model.cache.like()
        self._staged = 0
        self._long: list[Proposal | Scoring] = []
        self._waiting: list[tuple[tuple[int, int], Proposal | Scoring]] = []
        self._arrival = itertools.count()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="powercut-engine", daemon=True)
        self._thread.start()

    def submit(self, work: Proposal | Scoring, priority: int) -> None:
        """Queue work; earlier and more urgent work goes first."""
        with self._wake:
            if self._closed:
                raise EngineDead("the engine has been closed")
            work.order = (priority, next(self._arrival))
            heapq.heappush(self._waiting, (work.order, work))
            self._wake.notify()

    @property
    def alive(self) -> bool:
        """Whether the thread runs and takes work."""
        return self._thread.is_alive() and not self._closed

    def room(self) -> int:
        """Rows that could start now; none while anybody waits."""
        with self._wake:
            return 0 if self._waiting or self._long else max(0, self.batch.max_rows - len(self.batch.rows))

    def close(self) -> None:
        """Stop the thread; whoever waits is told. Raises `EngineDead` if it hangs, and leaves it."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            raise EngineDead(f"the engine's thread has not ended within {CLOSE_S:g} s")

    def _run(self) -> None:
        with torch.inference_mode():
            while self._wait():
                try:
                    self._turn()
                except Exception as error:  # the worker loop: every waiter gets an answer
                    self._fail(error)
        for work in [*self.batch.rows, *self._long, *(entry[1] for entry in self._waiting)]:
            work.reply.answer(EngineDead("the engine has been closed"))
        self._waiting.clear()
        self._long.clear()
        self._staging.clear()
        self.batch.clear()

    def _wait(self) -> bool:
        with self._wake:
            while not (self._closed or self.batch.rows or self._waiting or self._long):
                self.batch.rest()
                self._wake.wait()
            return not self._closed

    def _turn(self) -> None:
        self._admit()
        if (work := self._next_long()) is not None:
            self._prepare(work)
        if self.batch.rows:
            for proposal in self.batch.decode():
                self._requeue(proposal)

    def _requeue(self, proposal: Proposal) -> None:
        with self._wake:
            heapq.heappush(self._waiting, (proposal.order, proposal))

    def _admit(self) -> None:
        while (work := self._next()) is not None:
            try:
                if isinstance(work, Scoring):
                    self._long.append(work)
                    continue
                pieces = self.batch.stored(work)
                if len(work.ids) - 1 - sum(piece.shape[2] for piece in pieces) > CHUNK:
                    self._long.append(work)
                else:
                    self.batch.join(work, pieces)
            except Exception as error:  # this caller's failure is not its neighbours'
                work.reply.answer(translate(error))

    def _next(self) -> Proposal | Scoring | None:
        """The most urgent work that may start now."""
        with self._wake:
            while self._waiting:
                work = self._waiting[0][1]
                if not work.reply.cancelled and isinstance(work, Proposal) and not self._makes_way(work):
                    return None
                heapq.heappop(self._waiting)
                if not work.reply.cancelled:
                    return work
        return None

    def _makes_way(self, work: Proposal) -> bool:
        """Whether there is a row for this proposal; rows that only draw ahead give theirs up."""
        while not self.batch.admits(len(work.ids)):
            ahead = None if work.request.priority is Priority.PREFETCH else self.batch.last_prefetch()
            if ahead is None:
                return False
            self.batch.preempt(ahead).finish(End.CANCELLED)
        return True

    def _next_long(self) -> Proposal | Scoring | None:
        """The long text to go on with. A prompt whose prefix would have nowhere to wait begins once there is a row."""
        for index, work in enumerate(self._long):
            if (
                (self._staged and index == 0)
                or isinstance(work, Scoring)
                or work.reply.cancelled
                or self.batch.has_room_for_prefix(len(work.ids))
                or self.batch.admits(len(work.ids))
                or self.batch.last_prefetch() is not None
            ):
                self._long.insert(0, self._long.pop(index))
                return work
        return None

    def _prepare(self, work: Proposal | Scoring) -> None:
        """Compute one chunk of a long text in the staging row."""
        try:
            done = work.reply.cancelled or self._chunk(work)
        except Exception as error:
            work.reply.answer(translate(error))
            done = True
        if done:
            self._long.pop(0)
            self._staged = 0
            self._staging.clear()
            self.batch.stage(0)

    def _chunk(self, work: Proposal | Scoring) -> bool:
        """One chunk; whether the text is ready."""
        last = len(work.ids) - 1
        if self._staged == 0 and isinstance(work, Proposal):
            pieces = self.batch.stored(work)
            self._stage(last)
            self._staged = self._staging.load(0, pieces)
            if last - self._staged <= CHUNK:  # somebody else has computed it by now
                self._requeue(work)
                return True
        start, end = self._staged, min(self._staged + CHUNK, last)
        self._stage(end)
        hidden = self.model.prefill(self._staging, 0, work.ids, start, end)
        self.batch.forward_passes += 1
        self._staged = end
        if isinstance(work, Scoring):
            self._score(work, hidden[0], start)
            if end == last:
                work.reply.answer((work.tokens, work.rows))
            return end == last
        if last - end > CHUNK:
            return False
        self.batch.prefixes.insert(tuple(work.ids[:end]), lambda a, b: self._staging.store(0, a, b))
        if sum(piece.shape[2] for piece in self.batch.stored(work)) < end:  # the store had no room for it
            work.prefix = [self._staging.store(0, 0, end)]
        self._requeue(work)
        return True

    def _stage(self, length: int) -> None:
        """Make room for `length` tokens in the staging row."""
        self.batch.stage(self._staging.planned_bytes(1, length))
        self._staging.reserve(1, length)

    def _score(self, work: Scoring, hidden: torch.Tensor, start: int) -> None:
        """The rows of the scored tokens among those that follow positions start.."""
        skipped = max(0, work.start - 1 - start)
        if skipped >= len(hidden):
            return
        logits = self.model.logits(hidden[skipped:])
        heads = Heads(logits, max(work.head, 1), [1.0] * len(logits), full=True)
        for offset in range(len(logits)):
            row = heads.row(offset, Support(), 1.0)
            target = work.ids[start + skipped + offset + 1]
            log_p = float(logits[offset, target]) - row.log_norm
            work.tokens.append(Token(target, log_p, row.log_z, row.entropy, 0.0))
            work.rows.append(row.compact(self.model.row_dtype, work.head))

    def _fail(self, error: Exception) -> None:
        """A forward pass of the batch failed: its rows' callers are told, and the next request starts clean."""
        for proposal in self.batch.rows:
            proposal.reply.answer(translate(error))
        self.batch.clear()
