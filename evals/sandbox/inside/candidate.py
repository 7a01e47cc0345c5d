"""The candidate's process: it executes the model's program and then answers calls, holding nothing else."""

from __future__ import annotations

import builtins
import os
import resource
import sys

from evals.sandbox.inside.wire import Link, encode

TYPE_CHECKING = False  # `typing` and `collections` cost every check milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn


def be_candidate(link: Link, cpu_s: int) -> NoReturn:
    """Execute the program, then answer calls until the checker has ended."""
    silence({link.incoming, link.outgoing})
    first = link.receive()
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    module = type(sys)("solution")
    sys.modules["solution"] = module
    link.send(attempt(lambda: exec(compile(first["solution"], "solution", "exec"), vars(module))))
    while True:
        call = link.receive()
        link.send(attempt(lambda call=call: answer(module, first["entry_point"], call)))


def answer(module: object, entry_point: str, call: Any) -> object:
    """One call of the function under test."""
    return getattr(module, entry_point)(*call["given"], **call["named"])


def attempt(work: Callable[[], object]) -> bytes:
    """What came of it, as a message. Everything is caught: `SystemExit` is an answer like any other."""
    try:
        return encode({"result": work()})
    except BaseException as error:
        told = {"raised": type(error).__name__[:100], "base": builtin_name(type(error)), "text": text_of(error)}
        return encode(told)


def builtin_name(kind: type[BaseException]) -> str:
    """The nearest builtin exception class."""
    return next(base.__name__ for base in kind.__mro__ if getattr(builtins, base.__name__, None) is base)


def text_of(error: BaseException) -> str:
    """An exception's text, whatever its class makes of `str`."""
    try:
        return str(error)[:200]
    except BaseException:
        return ""


def silence(kept: set[int]) -> None:
    """Keep two descriptors; input is empty and output goes nowhere. The first to go when memory runs out."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    first, last = sorted(kept)
    os.closerange(3, first)
    os.closerange(first + 1, last)
    os.closerange(last + 1, last + 64)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # not Linux, or not allowed: the limits hold all the same
