"""One HTTP server inside this process: its port, startup and graceful shutdown."""

import asyncio
import errno
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib import import_module
from typing import cast

import structlog
import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from infrawatch.client.loopback import local_url
from infrawatch.errors import CannotStart
from infrawatch.runtime import allow_open_files
from infrawatch.server.connection_limits import ConnectionLimits
from infrawatch.server.connections import HttpProtocol
from infrawatch.server.websockets import WebSocketProtocol
from infrawatch.settings import Settings

# Connections that wait for `accept`: all agents may reconnect at the same moment.
_BACKLOG = 2048
# The kernel closes a connection whose peer acknowledges nothing, or keeps its window closed, for
# this long: it is gone, or does not read. The live side cuts off viewers that read too slowly.
_USER_TIMEOUT_MS = 15_000
# Far above the frames that viewers send; larger ones are refused before they are in memory.
_FRAME_BYTES = 512 * 1024
# Other open files: PostgreSQL, Redis, logs, and those of the interpreter.
_OTHER_FILES = 256

log = structlog.get_logger()


def listen(settings: Settings, *, is_shared: bool = False) -> socket.socket:
    """Bind the listen address; connections wait until they are accepted.

    With `is_shared`, InfraWatch can bind it again; Linux then distributes connections among the
    listeners. Otherwise it is exclusive.

    Raises:
        CannotStart: it is in use, cannot be bound, or is exposed without authentication.
    """
    host, port = settings.host, settings.port
    if settings.authentication == "off" and not settings.is_loopback:
        raise CannotStart(
            f"Authentication is off, and {host} is open to other machines. Listen on 127.0.0.1, "
            "or set INFRAWATCH_AUTH=required, or off-and-i-know-it-is-open."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server(
            (host, port), family=family, backlog=_BACKLOG, reuse_port=is_shared
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"Port {port} on {host} is in use by another program; choose one with --port."
            ) from None
        reason, _, _ = str(error.strerror).partition(" (while ")
        raise CannotStart(
            f"Cannot listen on port {port} of {host} ({reason}); "
            "choose another with --port or --host."
        ) from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    return listener


@asynccontextmanager
async def serving(app: FastAPI, listener: socket.socket, settings: Settings) -> AsyncGenerator[str]:
    """Serve `app` until the block ends, then finish the requests in progress.

    Yields the server's URL for a browser on this machine.

    Raises:
        CannotStart: the application did not start or failed, or OpenTelemetry is not installed.
    """
    trace_if_configured(app, settings)
    server = _Server(_configuration(app, settings))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.serve([listener]))
        await server.ready.wait()
        try:
            yield local_url(*listener.getsockname()[:2])
        finally:
            server.should_exit = True
            await asyncio.wait({running})
            if server.lifespan.error_occurred:  # a supervisor has to notice
                raise CannotStart("The server stopped because of an error; the log says which.")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the command determines the order of shutdown."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise CannotStart("The server did not start; the log says why.") from None
        self.ready.set()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state["live"].drain()  # responses that would never end
        await super().shutdown(sockets)


def _fitting(settings: Settings) -> Settings:
    """Return the settings with `max_connections` lowered to fit the limit of open files."""
    needed = settings.max_connections + _OTHER_FILES
    allowed = allow_open_files(needed)
    if allowed >= needed:
        return settings
    max_connections = max(1, allowed - _OTHER_FILES)
    log.warning("fewer_connections", max_connections=max_connections, open_files=allowed)
    return settings.model_copy(update={"max_connections": max_connections})


def _configuration(app: FastAPI, settings: Settings) -> uvicorn.Config:
    limits = ConnectionLimits(_fitting(settings))
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], partial(HttpProtocol, limits=limits)),
        ws=cast(type[asyncio.Protocol], partial(WebSocketProtocol, limits=limits)),
        ws_max_size=_FRAME_BYTES,
        # It costs a third more work per frame, and memory per viewer, to save some bandwidth.
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the app handles them, for `trusted_proxies`
        backlog=_BACKLOG,
        timeout_keep_alive=max(1, round(settings.keep_alive.total_seconds())),
        timeout_graceful_shutdown=max(1, round(settings.drain_deadline.total_seconds())),
    )


def trace_if_configured(app: FastAPI, settings: Settings) -> None:
    """Send traces of an app to INFRAWATCH_TRACES_URL; without it, nothing is imported.

    Raises:
        CannotStart: OpenTelemetry is not installed.
    """
    if settings.traces_url is None:
        return
    try:
        tracing = import_module("infrawatch.tracing")
    except ImportError as error:
        raise CannotStart(
            f"INFRAWATCH_TRACES_URL needs {error.name}: pip install 'infrawatch[tracing]', or "
            "unset it."
        ) from None
    tracing.trace(app, str(settings.traces_url))
