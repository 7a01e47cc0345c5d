"""A server that stops without losing a reply: uvicorn, which keeps answering while what runs gets its time.

uvicorn's own way closes the listening socket at once, so that a probe or a late request meets a refused connection
and nobody is told why.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.drain import Drain
from service.house import House
from service.logs import LOGGER, configure
from service.settings import Settings

CLOSING_S = 3
"""Seconds that requests which were cut off get to be answered."""
CUT_OFF = 1
"""Exit code if requests were cut off, by the limit or by a second signal, or if something would not close."""


class DrainingServer(uvicorn.Server):
    """At the first SIGTERM or SIGINT nothing new begins; at the second, requests end at once.

    One that comes while what is held is being closed ends the process, whatever hangs there.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self.drain, self.cut = drain, 0
        self._until, self._leaving = 0.0, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come. Runs in the main thread between two instructions, so it only takes note."""
        if self._leaving:
            os._exit(CUT_OFF)
        if self.drain.stopping:
            self.cut = self.cut or len(self.drain.calls)
            self.should_exit = self.force_exit = True
            return
        self.drain.stop()
        self._until = monotonic() + self.drain.drain_s

    async def on_tick(self, counter: int) -> bool:
        """Whether to leave; called ten times a second."""
        self._leaving = await self._leaves(counter)
        return self._leaving

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything. A thread that is stuck in what did not close would be joined for ever: not here."""
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn has left out what the application closes
            await self.lifespan.shutdown()
        if self.drain.unclosed:
            os._exit(CUT_OFF)

    async def _leaves(self, counter: int) -> bool:
        leave = await super().on_tick(counter)
        if leave or not self.drain.stopping:
            return leave
        if not self.drain.calls:
            return True
        if monotonic() < self._until:
            return False
        self.cut = self.drain.cut()
        LOGGER.warning("requests cut off", extra={"request": {"count": self.cut}})
        return True


def impatient(send_timeout_s: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which hangs up on a peer that has read nothing for so long while there is more to send.

    Without it such a peer would hold its connection, and what waits to be sent, for as long as it likes. h11 is named,
    so that the bytes of requests are read alike wherever another parser is installed.
    """

    class Impatient(H11Protocol):
        _alarm: asyncio.TimerHandle | None = None

        def pause_writing(self) -> None:
            super().pause_writing()
            transport: asyncio.Transport = vars(self)["transport"]
            self._alarm = asyncio.get_running_loop().call_later(send_timeout_s, transport.abort)

        def resume_writing(self) -> None:
            self._calm()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._calm()
            super().connection_lost(exc)

        def _calm(self) -> None:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    return Impatient


@contextmanager
def leaving_at_sigterm() -> Iterator[None]:
    """End the process at SIGTERM, while no server has taken the signal over: nothing has been promised to anybody yet.

    That is what the kernel does by default, but not for process 1, which is what a container starts: it would load the
    whole model first, and then be killed because it did not stop.
    """
    before = signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def serve_app(app: FastAPI, settings: Settings) -> int:
    """Serve until told to stop; the exit code is 0 if every request got its reply."""
    house: House = app.state.runner.house
    configure(settings.log_level)
    config = uvicorn.Config(
        app,
        http=impatient(settings.send_timeout_s),
        loop="asyncio",  # not whatever else is installed, as beside vLLM or Ray: what is tested is what runs
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CLOSING_S,
    )
    server = DrainingServer(config, house.drain)
    try:
        server.run()
    except KeyboardInterrupt:  # a signal before the server took over
        return CUT_OFF
    return CUT_OFF if server.cut else 0
