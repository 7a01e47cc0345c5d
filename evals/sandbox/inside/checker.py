"""The checker's process: it executes the tests and asks the candidate where they call the function."""

from __future__ import annotations

import builtins
import ctypes
import os
import resource
import sys
import time

from evals.sandbox.inside.candidate import be_candidate, text_of
from evals.sandbox.inside.wire import CandidateGoneError, Link, NotPlainError, decode, encode

TYPE_CHECKING = False  # `typing` and `collections` cost every check milliseconds
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, NoReturn

PR_SET_DUMPABLE = 4
FROM_CANDIDATE = "from_candidate"


class Candidate:
    """The function under test, as the tests see it."""

    def __init__(self, link: Link, pid: int) -> None:
        self.link, self.pid = link, pid

    def __call__(self, *given: object, **named: object) -> Any:
        """Have the candidate answer one call.

        Raises:
            CandidateGoneError: Its process has ended.
            Exception: What it raised, as the nearest builtin exception.
        """
        return self.ask({"given": given, "named": named})

    def ask(self, message: dict[str, Any]) -> Any:
        """Send a message and take its answer."""
        body = encode(message)
        try:
            self.link.send(body)
            reply = self.link.receive()
        except (CandidateGoneError, OSError) as error:
            raise CandidateGoneError(f"{error}{self.how_it_ended()}") from None
        if "result" in reply:
            return reply["result"]
        raise raised_again(reply)

    def how_it_ended(self) -> str:
        """The signal or the exit status, if it has ended."""
        for _ in range(20):  # its pipe closes a moment before it is gone
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.005)
        else:
            return ""
        return f": signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f": exit {os.WEXITSTATUS(status)}"


def raised_again(reply: dict[str, Any]) -> Exception:
    """The candidate's exception as the nearest builtin one. What would end the checker becomes a plain `Exception`."""
    kind = getattr(builtins, str(reply["base"]), Exception)
    if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(kind, AssertionError):
        kind = Exception
    text = f"{reply['raised']}: {reply['text']}"
    try:
        error = kind(text)
    except TypeError:  # UnicodeDecodeError and the like want more arguments
        error = Exception(text)
    setattr(error, FROM_CANDIDATE, True)
    return error


def run_tests(job: dict[str, Any], candidate: Candidate) -> tuple[str | None, bool]:
    """Execute the trusted prelude and the tests.

    Returns:
        None or why the program fails, and whether that is the tests' own fault.
    """
    if "random" in job["tests"] + job["prelude"]:
        import random

        random.seed(0)  # tests that draw their inputs draw the same ones for every answer
    names: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(job["prelude"], "prelude", "exec"), names)
        names[job["entry_point"]] = candidate
        tests = compile(job["tests"], "tests", "exec")
    except BaseException as error:
        return f"the tests themselves do not run: {type(error).__name__}", True
    try:
        candidate.ask({"solution": job["solution"], "entry_point": job["entry_point"]})
        exec(tests, names)
    except AssertionError as error:
        return f"an assertion of the tests does not hold{place(error)}", False
    except CandidateGoneError as error:
        return str(error), False
    except NotPlainError as error:
        return f"the tests call the program with what cannot be sent: {error}", True
    except BaseException as error:
        return reason(error), False
    return None, False


def reason(error: BaseException) -> str:
    """Why a program fails whose result or exception the tests do not take."""
    if getattr(error, FROM_CANDIDATE, False):
        return f"the program raised {text_of(error)}"
    return f"the tests met {type(error).__name__}{place(error)}"


def place(error: BaseException) -> str:
    """The deepest line of the tests in a traceback."""
    lines: list[int] = []
    trace: TracebackType | None = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "tests":
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" (line {lines[-1]} of the tests)" if lines else ""


def limit(limits: dict[str, int]) -> None:
    """Limits that both processes keep; none of them can be raised again."""
    for name, which in (
        ("memory_bytes", "AS"),
        ("file_bytes", "FSIZE"),
        ("open_files", "NOFILE"),
        ("processes", "NPROC"),
    ):
        value = limits.get(name)
        if value is not None:
            resource.setrlimit(getattr(resource, f"RLIMIT_{which}"), (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fork_candidate(cpu_s: int) -> Candidate:
    """Start the candidate's process, which waits for its program, and hide this one from it."""
    to_us, from_them = os.pipe()
    to_them, from_us = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            be_candidate(Link(to_them, from_them), cpu_s)
        finally:
            os._exit(0)
    os.close(from_them)
    os.close(to_them)
    if ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        sys.exit("the checker cannot hide its memory")
    return Candidate(Link(to_us, from_us), pid)


def main() -> NoReturn:
    """Fork the candidate, then read the job, run the tests and tell."""
    sys.path[:] = [entry for entry in sys.path if entry]  # the working folder is the candidate's to write in
    limits = {name: int(value) for name, _, value in (word.partition("=") for word in sys.argv[1:])}
    limit(limits)
    candidate = fork_candidate(limits["cpu_s"])
    job = decode(sys.stdin.buffer.read())
    tell("ready", "", "")
    wrong, our_fault = run_tests(job, candidate)
    word = "passed" if wrong is None else "broken" if our_fault else "rejected"
    tell(word, job["secret"], wrong or "")
    os._exit(0)


def tell(word: str, secret: str, text: str) -> None:
    """A line to the harness."""
    os.write(1, f"{word} {secret} {' '.join(text.split())[:300]}\n".encode("utf-8", "replace"))
