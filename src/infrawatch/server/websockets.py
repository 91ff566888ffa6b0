"""uvicorn's WebSocket protocol, hardened against peers that send too much or do not read."""

import asyncio
import logging
from typing import Any

from typing_extensions import override
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from infrawatch.errors import InfraWatchError
from infrawatch.server.connection_limits import ConnectionLimits
from infrawatch.server.refusals import to_bytes
from infrawatch.telemetry import CONNECTIONS_LOGGER

_MUCH_BYTES, _BYTES_PER_S = 16 * 1024, 256 * 1024
"""A one-byte frame costs as much as one of a kilobyte, and one read may return 2 MiB of them."""

_MAX_FRAGMENTS = 1_000

_NO_HANDSHAKE = (
    "this is no WebSocket handshake: send GET without a body, with 128 headers of 8,192 bytes each "
    "at the most; where no WebSocket is meant, leave the header Upgrade out"
)


class NoHandshake(InfraWatchError):
    code = "no_handshake"
    status = 400


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, but closing never waits for a peer that does not read.

    uvicorn closes a connection once everything has been sent, which never happens if the peer does
    not read. Viewers send little: after a large read, reading is paused for a while.
    """

    def __init__(self, *, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self.logger = logging.getLogger(CONNECTIONS_LOGGER)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.release(self.transport)
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not (self.handshake_initiated or self.transport.is_closing()):
            # The first data received is a whole head. If it is no handshake, uvicorn waits forever.
            self.transport.write(to_bytes(NoHandshake(_NO_HANDSHAKE)))
            self.transport.close()
        elif len(data) > _MUCH_BYTES and not (self.read_paused or self.transport.is_closing()):
            self.transport.pause_reading()
            self.loop.call_later(len(data) / _BYTES_PER_S, self._read_on)

    @override
    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        if len(self.frames) > _MAX_FRAGMENTS:  # size limits miss empty ones
            self.transport.abort()

    def _read_on(self) -> None:
        if not (self.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    @override
    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:  # premature frames: no task handles them yet
            self.transport.abort()
        else:
            super().handle_parser_exception()

    @override
    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            # uvicorn mistakes a refused upgrade for an unanswered one, and would log an error for
            # every page or program without a key.
            self.handshake_complete = True

    @override
    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.writable.is_set():
            self.transport.abort()

    @override
    def shutdown(self) -> None:
        super().shutdown()
        if not self.writable.is_set():
            self.transport.abort()
