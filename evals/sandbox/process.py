"""One process with an input, within a wall time and an amount of output, after which none of it is left."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from evals.sandbox.command import FILTER_AT, NOBODY
from evals.sandbox.syscalls import seccomp_filter


class TooMuchOutput(Exception):
    """More came out than a check has to say."""


class NotDone(Exception):
    """The wall time is over; `printed` is what had come out by then."""

    def __init__(self, printed: bytes) -> None:
        super().__init__()
        self.printed = printed


async def run_limited(
    command: Sequence[str], job: bytes, *, wall_s: float, output_bytes: int, drop: bool, contained: bool
) -> tuple[bytes, bytes]:
    """Run a command with an input, to its end or a limit. However this ends, no process is left.

    Args:
        command: What to run, in an empty environment.
        job: Its standard input.
        wall_s: Seconds from start to end.
        output_bytes: The most that either output may be.
        drop: Give up root's rights first.
        contained: The command takes all that it has started along when it ends, as bubblewrap does. Otherwise its
            process group is killed after it has ended too.

    Returns:
        Standard output and standard error.

    Raises:
        NotDone: It was not done in time.
        TooMuchOutput: It printed more than allowed.
        OSError: It could not be started.
    """
    process = await start(command, drop=drop)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    printed, complaint = bytearray(), bytearray()
    try:
        async with asyncio.timeout(wall_s):
            await asyncio.gather(
                give(process.stdin, job),
                read_capped(process.stdout, printed, output_bytes),
                read_capped(process.stderr, complaint, output_bytes),
            )
            await process.wait()
        return bytes(printed), bytes(complaint)
    except TimeoutError:
        raise NotDone(bytes(printed)) from None
    finally:
        await end(process, contained=contained)


async def start(command: Sequence[str], *, drop: bool) -> asyncio.subprocess.Process:
    """Start a command in an empty environment, with the system-call filter ready to be read at its descriptor."""
    rights: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if drop else {}
    pipe = asyncio.subprocess.PIPE
    passed = [filter_pipe()] if FILTER_AT in command else []
    try:
        command = [str(passed[0]) if word == FILTER_AT else word for word in command]
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            pass_fds=passed,
            env={},
            cwd="/",
            start_new_session=True,
            **rights,
        )
    finally:
        for descriptor in passed:
            os.close(descriptor)


def filter_pipe() -> int:
    """The reading end of a pipe that holds the filter: a few hundred bytes, which a pipe keeps."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(seccomp_filter() or b"")
    return reading


async def give(stream: asyncio.StreamWriter, data: bytes) -> None:
    """Write all and close; a process that has gone already is no error here."""
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.close()
        await stream.wait_closed()


async def read_capped(stream: asyncio.StreamReader, into: bytearray, most: int) -> None:
    """Read to the end, or raise `TooMuchOutput`."""
    while part := await stream.read(1 << 16):
        into += part
        if len(into) > most:
            raise TooMuchOutput


async def end(process: asyncio.subprocess.Process, *, contained: bool) -> None:
    """Kill what is left: bubblewrap's death takes everything inside along; without it, the group is killed."""
    if process.returncode is None or not contained:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(5.0):
            await process.wait()
