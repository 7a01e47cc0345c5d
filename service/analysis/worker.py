"""The child process that computes: reads tasks from standard input, writes replies to what was standard output.

A task is a line of JSON (`name`, `seed`, `picture`, `about`, `length`) and `length` bytes of request. Each answer is a
line of JSON with its `kind`: `started`, `progress`, `refused`, `failed`, or `done`, which is followed by the reply's
bytes and the picture's. Nothing is pickled. The process ends as soon as its parent does, whatever it is doing.
"""

import argparse
import json
import logging
import os
import queue
import resource
import sys
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

from service.analysis.frame import About, Analysis, AnalysisError, load_registry
from service.analysis.run import run

log = logging.getLogger("powercut.analysis")


class Task(NamedTuple):
    """What the parent asks."""

    name: str
    seed: int | None
    picture: bool
    about: About
    request: bytes


def claim_stdout() -> BinaryIO:
    """The channel to the parent; whatever a library prints goes to standard error from now on."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return channel


def send(channel: BinaryIO, header: dict[str, Any], *bodies: bytes) -> None:
    """One answer."""
    channel.write(json.dumps(header).encode() + b"\n" + b"".join(bodies))
    channel.flush()


def read_tasks(source: BinaryIO, tasks: "queue.SimpleQueue[Task]") -> None:
    """Pass on what the parent sends; its end is ours, even in the middle of a computation."""
    while line := source.readline():
        header = json.loads(line)
        body = source.read(header["length"])
        if len(body) < header["length"]:
            break
        about = About.model_validate(header["about"])
        tasks.put(Task(header["name"], header["seed"], header["picture"], about, body))
    os._exit(0)


def answer(task: Task, analyses: Mapping[str, Analysis[Any, Any]], channel: BinaryIO) -> None:
    """Do one task and send its one last answer."""
    send(channel, {"kind": "started"})

    def progress(fraction: float, note: str) -> None:
        send(channel, {"kind": "progress", "fraction": fraction, "note": note})

    try:
        analysis = analyses[task.name]
        request = analysis.request.model_validate_json(task.request)
        outcome = run(analysis, request, task.seed, picture=task.picture, progress=progress, about=task.about)
    except AnalysisError as error:
        header = {"field": error.field, "message": error.message, "status": error.status, "code": error.code}
        send(channel, {"kind": "refused", **header})
    except MemoryError:
        send(channel, {"kind": "failed", "reason": "out_of_memory"})
    except Exception:  # the process's own boundary: the waiter gets an answer
        log.exception("the analysis %s failed", task.name)
        send(channel, {"kind": "failed", "reason": "internal_error"})
    else:
        picture = outcome.picture or b""
        send(channel, {"kind": "done", "reply": len(outcome.reply), "picture": len(picture)}, outcome.reply, picture)


def main() -> None:
    """Work until the parent closes standard input."""
    parser = argparse.ArgumentParser(prog="service.analysis.worker")
    parser.add_argument("--memory-bytes", type=int, default=0, help="most address space of this process; 0 = any")
    parser.add_argument("--registry", required=True, help="module:name of the analyses")
    options = parser.parse_args()
    if options.memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (options.memory_bytes, options.memory_bytes))
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    channel = claim_stdout()
    analyses = load_registry(options.registry)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=read_tasks, args=(sys.stdin.buffer, tasks), daemon=True).start()
    while True:
        answer(tasks.get(), analyses, channel)


if __name__ == "__main__":
    main()
