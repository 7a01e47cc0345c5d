"""Answers in the shapes of OpenAI's two routes: whole, and in chunks."""

from typing import Any, Protocol

from service.finished import Finished
from service.logprobs import Shown, answer_shown, chat_logprobs, completion_logprobs, prompt_shown
from service.plan import Plan


class Shape(Protocol):
    """How one of the routes writes what another writes otherwise."""

    id_prefix: str
    object: str
    chunk_object: str

    def choice(self, done: Finished, plan: Plan) -> dict[str, Any]:
        """A whole answer."""
        ...

    def opening(self, index: int, plan: Plan) -> dict[str, Any] | None:
        """The first chunk's choice of an answer, if there is something to say before its text."""
        ...

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A chunk's choice that brings text."""
        ...

    def closing(self, done: Finished, plan: Plan) -> list[dict[str, Any]]:
        """The choices of an answer's last chunks."""
        ...


class CompletionShape:
    """`POST /v1/completions`."""

    id_prefix = "cmpl-"
    object = chunk_object = "text_completion"

    def choice(self, done: Finished, plan: Plan) -> dict[str, Any]:
        """A whole answer, after its prompt if that is echoed."""
        return self._choice(done, plan, _echoed(done.index, plan) + done.text)

    def opening(self, index: int, plan: Plan) -> dict[str, Any] | None:
        """The echoed prompt; with log-probabilities it comes with the answer."""
        if plan.scores_prompts or not _echoed(index, plan):
            return None
        return self.piece(index, _echoed(index, plan))

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A chunk's choice that brings text."""
        return {"index": index, "text": text, "logprobs": None, "finish_reason": None}

    def closing(self, done: Finished, plan: Plan) -> list[dict[str, Any]]:
        """The rest of the text, and why it ended."""
        return [self._choice(done, plan, (_echoed(done.index, plan) if plan.scores_prompts else "") + done.rest)]

    def _choice(self, done: Finished, plan: Plan, text: str) -> dict[str, Any]:
        choice: dict[str, Any] = self.piece(done.index, text) | {"finish_reason": done.finish_reason}
        if plan.logprobs is not None:
            shown = _shown(done, plan, plan.logprobs)
            choice["logprobs"] = completion_logprobs(shown, plan.tokenizer, plan.logprobs)
        return _with_power(choice, done)


class ChatShape:
    """`POST /v1/chat/completions`."""

    id_prefix = "chatcmpl-"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def choice(self, done: Finished, plan: Plan) -> dict[str, Any]:
        """A whole answer."""
        message = {"role": "assistant", "content": done.text, "refusal": None}
        return self._finished({"index": done.index, "message": message}, done, plan)

    def opening(self, index: int, plan: Plan) -> dict[str, Any] | None:
        """Who speaks."""
        return self._delta(index, {"role": "assistant", "content": "", "refusal": None})

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A chunk's choice that brings text."""
        return self._delta(index, {"content": text})

    def closing(self, done: Finished, plan: Plan) -> list[dict[str, Any]]:
        """The rest of the text with its log-probabilities, and then why it ended."""
        last = _with_power(self._delta(done.index, {}) | {"finish_reason": done.finish_reason}, done)
        if not done.rest and plan.logprobs is None:
            return [last]
        return [self.piece(done.index, done.rest) | {"logprobs": self._logprobs(done, plan)}, last]

    def _delta(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _finished(self, choice: dict[str, Any], done: Finished, plan: Plan) -> dict[str, Any]:
        choice |= {"logprobs": self._logprobs(done, plan), "finish_reason": done.finish_reason}
        return _with_power(choice, done)

    def _logprobs(self, done: Finished, plan: Plan) -> dict[str, Any] | None:
        return None if plan.logprobs is None else chat_logprobs(_shown(done, plan, plan.logprobs), plan.tokenizer)


def _echoed(index: int, plan: Plan) -> str:
    return "" if plan.echo is None else plan.echo[index // plan.n]


def _shown(done: Finished, plan: Plan, count: int) -> list[Shown]:
    before, prompt = _echoed(done.index, plan), list[Shown]()
    if done.scored is not None:
        prompt = prompt_shown(plan.prompts[done.index // plan.n], done.scored, plan.tokenizer, before, count)
    return prompt + answer_shown(done.answer, plan.tokenizer, done.text, count, len(before))


def _with_power(choice: dict[str, Any], done: Finished) -> dict[str, Any]:
    if done.power is None:
        return choice
    return choice | {"power": done.power | ({"dropped": done.dropped} if done.dropped else {})}
