"""A server whose engine never closes: `python -m tests.service.stuck PORT SECONDS_TO_CLOSE`."""

import asyncio
import sys
import threading

from service import closing
from service.app import create_app
from service.server import serve_app
from service.settings import Settings
from tests.service.faulty import FaultyEngine
from tests.service.tables import letters_table


class StuckEngine(FaultyEngine):
    """A table that waits for a thread that never ends when it is closed."""

    async def aclose(self) -> None:
        """Never."""
        print("closing", flush=True)
        await asyncio.to_thread(threading.Event().wait)


if __name__ == "__main__":
    closing.CLOSE_S = float(sys.argv[2])
    settings = Settings(port=int(sys.argv[1]))
    sys.exit(serve_app(create_app(StuckEngine(letters_table()), settings), settings))
