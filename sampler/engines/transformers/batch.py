"""The running batch: rows join between tokens, and leave the moment they are done, rejected or cancelled."""

import torch

from sampler.engine import Priority, segment_end
from sampler.engines.transformers.heads import Heads, head_size, needs_full
from sampler.engines.transformers.model import Model
from sampler.engines.transformers.prefixes import PrefixStore
from sampler.engines.transformers.work import Proposal, translate
from sampler.trace import End

KEPT_HEAD = 64
"""Tokens kept of a row over the whole vocabulary; a draw beyond them is made again from the engine's row."""
STORE_SHARE = 8
"""One part in so many of the memory for keys and values stays with the prefixes, whatever the rows want."""

WORK_SHARE = 10
"""One part in so many is left for what a pass needs beside keys and values, and for copies of these under way."""


class Batch:
    """Rows that run together. `kv_bytes` bounds their keys and values and those of the stored prefixes together."""

    def __init__(self, model: Model, max_rows: int, kv_bytes: int) -> None:
        self.model, self.max_rows, self.kv_bytes = model, max_rows, kv_bytes
        self._usable = kv_bytes - kv_bytes // WORK_SHARE
        self.prefixes = PrefixStore(self._usable, model.cache.token_bytes)
        self.rows: list[Proposal] = []
        self.staged_bytes = 0
        self.forward_passes = 0
        self.decoded_tokens = 0

    @property
    def _rows_share(self) -> int:
        return self._usable - self._usable // STORE_SHARE

    def fits(self, rows: int, length: int) -> bool:
        """Whether so many rows of so many tokens stay within the memory. One row always runs."""
        return rows == 1 or self.model.cache.tight_bytes(rows, length) <= self._rows_share

    def admits(self, length: int) -> bool:
        """Whether a row of `length` tokens may join now."""
        longest = max([length, *(row.cached for row in self.rows)]) + 1
        return len(self.rows) < self.max_rows and self.fits(len(self.rows) + 1, longest)

    def has_room_for_prefix(self, length: int) -> bool:
        """Whether a prefix computed ahead of its row can wait in the store."""
        return 2 * length * self.model.cache.token_bytes <= self.prefixes.max_bytes

    def stage(self, staged_bytes: int) -> None:
        """Count the memory of a prompt being computed: prefixes make way for it."""
        self.staged_bytes = staged_bytes
        self._share_out(self.model.cache.buffer_bytes)

    def stored(self, proposal: Proposal) -> list[torch.Tensor]:
        """What is stored of a proposal's ids but the last."""
        return proposal.prefix if proposal.prefix is not None else self.prefixes.match(proposal.ids[:-1])

    def join(self, proposal: Proposal, pieces: list[torch.Tensor]) -> None:
        """Give a proposal the next row: load the stored pieces, compute the rest of its ids but the last."""
        row, ids, cache = len(self.rows), proposal.ids, self.model.cache
        self._reserve(row + 1, len(ids) + 1)
        proposal.cached = cache.load(row, pieces)
        if not proposal.tokens:
            proposal.reused = proposal.cached
        proposal.prefix = None
        if proposal.cached < len(ids) - 1:
            self.model.prefill(cache, row, ids, proposal.cached, len(ids) - 1)
            self.forward_passes += 1
            proposal.cached = len(ids) - 1
            self._keep(row, proposal)  # at once, so that the other chains of this prompt find it
        self.rows.append(proposal)

    def decode(self) -> list[Proposal]:
        """One token for every row. Returns the rows put back for want of memory."""
        back = self._make_room()
        batch = self.rows
        length = max(proposal.cached for proposal in batch) + 1
        self._reserve(len(batch), length)
        device = self.model.device
        # One transfer to the device: last ids and positions together.
        feed = torch.tensor([[p.ids[-1] for p in batch], [p.cached for p in batch]], device=device)[:, :, None]
        hidden = self.model.hidden(self.model.cache, slice(0, len(batch)), feed[0], feed[1], length)
        heads = self._heads(self.model.logits(hidden[:, -1]))
        self.forward_passes += 1
        self.decoded_tokens += len(batch)
        outcomes = [self._advance(index, proposal, heads) for index, proposal in enumerate(batch)]
        done = [(index, batch[index], outcome) for index, outcome in enumerate(outcomes) if outcome is not None]
        for index, _, _ in reversed(done):
            self._leave(index)
        for _, proposal, outcome in done:  # after leaving, so that whoever hears of it finds the row free
            proposal.finish(outcome) if isinstance(outcome, End) else proposal.reply.answer(outcome)
        return back

    def preempt(self, index: int) -> Proposal:
        """Take a row out of the batch, with all that it has drawn; it may join again."""
        proposal = self.rows[index]
        self._leave(index)
        return proposal

    def last_prefetch(self) -> int | None:
        """The latest row that was only drawn ahead, None if there is none."""
        ahead = [i for i, row in enumerate(self.rows) if row.request.priority is Priority.PREFETCH]
        return max(ahead, key=lambda i: self.rows[i].order) if ahead else None

    def clear(self) -> None:
        """Forget all rows and prefixes."""
        self.rows.clear()
        self.model.cache.clear()
        self.prefixes.clear()

    def rest(self) -> None:
        """Give a large buffer back to the prefixes while nothing runs."""
        if self.model.cache.buffer_bytes > self.kv_bytes // STORE_SHARE:
            self.model.cache.clear()
            self._share_out(0)

    def _heads(self, logits: torch.Tensor) -> Heads:
        requests = [proposal.request for proposal in self.rows]
        return Heads(
            logits,
            max(head_size(request) for request in requests),
            [request.alpha for request in requests],
            any(needs_full(request.support) for request in requests),
        )

    def _advance(self, index: int, proposal: Proposal, heads: Heads) -> End | Exception | None:
        """Draw a row's next token; how the row ended, if it did."""
        request = proposal.request
        proposal.cached += 1
        if proposal.reply.cancelled:
            return End.CANCELLED
        try:
            position = request.position + len(proposal.tokens)
            row, token = heads.draw(index, request, request.key.uniform(position), len(proposal.tokens))
            proposal.tokens.append(token)
            proposal.ids.append(token.id)
            if request.keep_rows:
                proposal.rows.append(row.compact(self.model.row_dtype, max(KEPT_HEAD, request.head)))
            end = segment_end(token.id, request.eos_ids, request.watch((token,)) if request.watch else None)
        except Exception as error:  # a watcher's failure is its caller's alone
            return translate(error)
        return End.LENGTH if end is None and len(proposal.tokens) >= request.max_tokens else end

    def _make_room(self) -> list[Proposal]:
        """Put the latest and least urgent rows back until the next token of the others fits."""
        back: list[Proposal] = []
        while not self.fits(len(self.rows), max(row.cached for row in self.rows) + 1):
            back.append(self.preempt(max(range(len(self.rows)), key=lambda i: self.rows[i].order)))
        return back

    def _leave(self, index: int) -> None:
        """Free a row: keep its keys and values for later, and move the last row into its place."""
        self._keep(index, self.rows[index])
        last = self.rows.pop()
        if index < len(self.rows):
            self.model.cache.move(len(self.rows), index, last.cached)
            self.rows[index] = last

    def _keep(self, row: int, proposal: Proposal) -> None:
        ids = tuple(proposal.ids[: proposal.cached])
        self.prefixes.insert(ids, lambda start, end: self.model.cache.store(row, start, end))

    def _reserve(self, rows: int, length: int) -> None:
        cache, share = self.model.cache, self._rows_share
        self._share_out(cache.planned_bytes(rows, length, share))  # prefixes go before the rows need their memory
        cache.reserve(rows, length, share)

    def _share_out(self, buffer_bytes: int) -> None:
        self.prefixes.resize(self._usable - self.staged_bytes - buffer_bytes)
