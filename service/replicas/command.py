"""`powercut serve --ray` from start to stop: a Ray cluster of its own on this machine, or one that runs already."""

import logging
import math
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import typer

from sampler.engine import EngineOptions
from sampler.errors import InvalidParams
from service.replicas.deployment import CLOSING_S, NAME, application, loader, spreads
from service.replicas.options import Scale, shared_store
from service.replicas.proxy import environment
from service.server import CLOSING_S as ANSWERING_S
from service.server import CUT_OFF
from service.settings import Settings

STAY_HERE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on any system: all of Ray's own ports on the loopback address only
    "RAY_worker_niceness": "0",  # replicas are not work in the background, which 15 would make of them
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "300",  # a busy machine takes longer than 5 s, after which it is killed
    "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "1",  # the same: 0.1 s, after which another replica is asked
}
"""Ray's environment where the cluster is this machine. An address given to `ray.init` alone leaves its ports open."""
GREETING_S = 10.0
STORE_BYTES = 100 << 20
"""Ray's object store. Requests and replies are too small to go through it."""
MISSING = "ray: replicas need Ray Serve: pip install 'powercut[ray]'"


class Impatience(BaseException):
    """A second signal: end at once."""


class Stop:
    """Waits for SIGTERM or SIGINT; the second of them interrupts whatever the main thread does."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def wait(self) -> None:
        """Until the first."""
        while not self._asked.wait(1.0):
            pass

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():
            raise Impatience
        self._asked.set()


def serve_on_ray(engine: str, options: EngineOptions, settings: Settings, scale: Scale, address: str | None) -> int:
    """Serve an engine until told to stop; the exit code is 0 if every request got its reply.

    Raises:
        InvalidParams: Ray is not installed or not there, a setting cannot be kept, or no replica could be started.
    """
    load = loader(engine, options)
    check(settings, address)
    prepare(settings, is_ours=address is None)
    try:
        with cluster(scale, address) as where:
            target = application(load, settings, scale, spreads(options.engine_args))
            start(settings, is_ours=address is None)
            with removed():
                handle = run(target)
                stop = Stop()
                tell(handle, settings, scale, where)
                stop.wait()
                return end(handle, settings)
    except Impatience:
        return CUT_OFF


def check(settings: Settings, address: str | None) -> None:
    """Raise `InvalidParams` for what cannot be kept on Ray."""
    if settings.port == 0:
        raise InvalidParams("port", "on Ray Serve the port must be named; 0 is not")
    if address is not None:
        shared_store(settings)
        greet(address)


def greet(address: str) -> None:
    """Raise `InvalidParams` if nobody answers at an address; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), GREETING_S).close()
    except (OSError, ValueError, OverflowError):
        raise InvalidParams("ray_address", f"--ray-address: nobody answers at {address}; want HOST:PORT") from None


def prepare(settings: Settings, *, is_ours: bool) -> None:
    """Set Ray's environment, which it reads when it is imported, and hands on to all processes that it starts.

    A replica has one port on all interfaces, whatever Ray is told, and whoever may speak to it may run code there. Only
    Ray's token guards it, so a cluster of ours has one: a new one that no file keeps, unless there is one already.

    Raises:
        InvalidParams: the token is switched off.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody, unless asked for
    if not is_ours:
        return
    if os.environ.setdefault("RAY_AUTH_MODE", "token") != "token":
        raise InvalidParams("ray", "ray: without its token (RAY_AUTH_MODE) others could run code in a replica")
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.update({**STAY_HERE, **environment(settings)})


@contextmanager
def cluster(scale: Scale, address: str | None) -> Iterator[str]:
    """The address of a Ray cluster: the one given, or that of a new one on this machine, which ends with the block."""
    try:
        import ray
        from ray import serve
        from ray.exceptions import RayError
    except ImportError:
        raise InvalidParams("ray", MISSING) from None
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    given: dict[str, Any] = {"address": address}
    if address is None:
        cores = max(os.cpu_count() or 1, math.ceil(scale.most * scale.cpus_per_replica))
        given = {"num_cpus": cores, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        given["address"] = "local"  # not whatever RAY_ADDRESS or a file in /tmp names
    try:
        ray.init(**given, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        where = f"at {address}" if address is not None else "here"
        raise InvalidParams("ray_address", f"no Ray cluster can be used {where}: {first_line(error)}") from None
    hurry = False
    try:
        yield ray.get_runtime_context().gcs_address
    except Impatience:
        hurry = True
        raise
    finally:
        if address is None and not hurry:
            with suppress(Exception):
                serve.shutdown()
        ray.shutdown()


def start(settings: Settings, *, is_ours: bool) -> None:
    """Start Serve, where it does not run yet.

    Raises:
        InvalidParams: it runs already, and listens elsewhere.
    """
    from ray import serve
    from ray.serve.context import _get_global_client  # Serve has no public word for where it listens

    with suppress(TimeoutError):  # a proxy that is not there after a minute is waited for below
        serve.start(
            proxy_location="HeadOnly" if is_ours else "EveryNode",
            http_options={"host": settings.host, "port": settings.port, "keep_alive_timeout_s": 5},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
            # Where Ray runs already its processes have their environment, but for those that are started with another.
            controller_options=None if is_ours else {"runtime_env": {"env_vars": environment(settings)}},
        )
    client = _get_global_client()
    assert client is not None, "Serve runs by now"
    refuse_other_door(settings, client.http_config.host, client.http_config.port)


def refuse_other_door(settings: Settings, host: str | None, port: int) -> None:
    """Raise `InvalidParams` unless Serve listens where the settings say.

    A Serve that runs already keeps its address, whatever it is told. Whether others may reach a server without keys was
    decided by our address, so another one could open it to them; and the line that says where it is would be false.
    """
    if (host, port) != (settings.host, settings.port):
        field = "port" if host == settings.host else "host"
        at = f"--host {host} --port {port}"
        raise InvalidParams(field, f"Serve runs on this cluster already and keeps its address: give {at}, or end it")


def run(target: Any) -> Any:
    """Start the replicas; a handle of them, once the first ones and a proxy serve."""
    from ray import serve

    try:
        handle = serve.run(target, name=NAME, route_prefix="/")
    except RuntimeError:
        raise InvalidParams("ray", f"no replica could be started: {why()}") from None
    while not any(proxy == "HEALTHY" for proxy in serve.status().proxies.values()):
        time.sleep(0.1)
    return handle


def tell(handle: Any, settings: Settings, scale: Scale, where: str) -> None:
    """The line that says what is served."""
    about = handle.about.remote().result()
    number = str(scale.most) if scale.fewest == scale.most else f"{scale.fewest} to {scale.most}"
    served = f"{about['model']} on the {about['engine']} engine {about['details']}"
    at = f"http://{settings.host}:{settings.port}"
    typer.echo(f"powercut: {served}, {number} replicas on Ray at {where}, at {at}")


def end(handle: Any, settings: Settings) -> int:
    """Let all replicas finish, for as long as `drain_s` says; the exit code."""
    patience_s = settings.drain_s + 2 * ANSWERING_S + CLOSING_S
    try:
        cut = handle.broadcast("drain").results(timeout_s=patience_s, return_exceptions=True)
    except Exception as error:  # whatever Ray says, the replicas are to go
        typer.echo(f"powercut: the replicas do not say whether they have finished: {first_line(error)}", err=True)
        return CUT_OFF
    return 0 if all(number == 0 for number in cut) else CUT_OFF


@contextmanager
def removed() -> Iterator[None]:
    """Take the application off the cluster at the end.

    Replicas close what they hold, within the time that Serve gives them; who is impatient does not wait for it.
    """
    from ray import serve

    patient = True
    try:
        yield
    except Impatience:
        patient = False
        raise
    finally:
        with suppress(Exception):  # a cluster that has gone, or has not got so far, has no application either
            serve.delete(NAME, _blocking=patient)


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def why() -> str:
    """Why replicas do not start: the innermost exception, which Serve reports with its whole traceback."""
    from ray import serve

    message = serve.status().applications[NAME].deployments[NAME].message
    named = re.findall(r"^\s*(?:[\w.]+\.)?([A-Z]\w+): (.+)$", message, re.MULTILINE)
    return ": ".join(named[-1]) if named else message.strip() or "Serve does not say why"
