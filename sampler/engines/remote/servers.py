"""The servers behind the engine: which of them answers a chain, and whether any is there.

A chain stays with one server, where its prefix is cached: its `affinity` picks one by rendezvous hashing, which
moves nobody else's chains when a server is added. Only when that server cannot be reached do its chains go to the
next of their order, and come back when it answers again.

A thread asks every server's `/health` every few seconds. The engine counts as alive while any server has answered
within `UNREACHABLE_S`: a restart behind a load balancer is not worth a failed readiness probe, minutes are, and an
engine that cannot be reached comes back by itself as soon as one server answers.
"""

import hashlib
import threading
import time
from collections.abc import Sequence

import httpx

from sampler.errors import InvalidParams

POLL_S = 5.0
UNREACHABLE_S = 15.0
HEALTH_TIMEOUT_S = 3.0


def check_url(text: str) -> str:
    """A server's base URL without `/v1`; raises `InvalidParams` for what is not one."""
    try:
        url = httpx.URL(text.strip())
    except (httpx.InvalidURL, TypeError, ValueError):
        raise InvalidParams("url", f"{text!r} is not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidParams("url", f"a server's URL looks like http://host:8000, not {text!r}")
    if url.userinfo or url.query or url.fragment:
        raise InvalidParams("url", "a server's URL holds no user, query or fragment; give the key by --api-key")
    return str(url).rstrip("/").removesuffix("/v1")


class Servers:
    """The URLs and what is known of them. Safe from any thread."""

    def __init__(
        self,
        urls: Sequence[str],
        headers: dict[str, str] | None = None,
        *,
        poll_s: float = POLL_S,
        unreachable_s: float = UNREACHABLE_S,
    ) -> None:
        self.urls = tuple(dict.fromkeys(urls))
        self._headers, self._poll_s, self._unreachable_s = headers or {}, poll_s, unreachable_s
        self._down: set[str] = set()
        self._seen = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="powercut-health", daemon=True)
        self._thread.start()

    def order(self, affinity: str) -> list[str]:
        """The URLs in the order to try them: this affinity's own first, those known to be down last."""

        def weight(url: str) -> bytes:
            return hashlib.blake2b(f"{affinity}\0{url}".encode(), digest_size=8).digest()

        return sorted(sorted(self.urls, key=weight), key=self._down.__contains__)

    def answered(self, url: str) -> None:
        """A server has sent something."""
        self._seen = time.monotonic()
        self._down.discard(url)

    def missed(self, url: str) -> None:
        """A server could not be connected."""
        self._down.add(url)

    @property
    def reachable(self) -> bool:
        """Whether some server has answered lately."""
        return time.monotonic() - self._seen < self._unreachable_s

    def close(self) -> None:
        """Stop asking."""
        self._closed.set()
        self._thread.join(HEALTH_TIMEOUT_S + 1)

    def _poll(self) -> None:
        with httpx.Client(headers=self._headers, timeout=HEALTH_TIMEOUT_S) as client:
            while not self._closed.wait(self._poll_s):
                for url in self.urls:
                    self._ask(client, url)

    def _ask(self, client: httpx.Client, url: str) -> None:
        try:
            well = client.get(f"{url}/health").status_code < 500
        except httpx.HTTPError:
            well = False
        if well:
            self.answered(url)
        else:
            self.missed(url)
