"""Cheap viewers: they read no more of a frame than its length and the time of its first sample.

On a small machine the viewers must not take from the server what is to be measured.
"""

import asyncio
import base64
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from urllib.parse import urlsplit

from typing_extensions import override

_FIRST_TIME = re.compile(rb"\[\[(\d+),")
_LOOKED_AT_BYTES = 2048
_NONCE = base64.b64encode(bytes(16)).decode()


@dataclass(slots=True)
class Seen:
    """All frames that all viewers were sent, and when each update came."""

    frames: int = 0
    sent_bytes: int = 0
    updates: list[tuple[int, float]] = field(default_factory=list)
    """The time (ms) of the first sample, and when it was here."""

    lost: int = 0


async def watch(url: str, selectors: Sequence[str], seen: Seen) -> list["Watcher"]:
    """One viewer for each selector, each with a connection; returns when all have a snapshot."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    loop = asyncio.get_running_loop()
    watchers = []
    for selector in selectors:
        _, watcher = await loop.create_connection(
            partial(Watcher, parts.netloc, selector, seen), parts.hostname, parts.port or 80
        )
        watchers.append(watcher)
    for watcher in watchers:
        await watcher.has_snapshot
    return watchers


def watch_deaf(url: str, selector: str) -> socket.socket:
    """A viewer that subscribes and never reads."""
    parts = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((parts.hostname, parts.port))
    connection.sendall(_handshake(parts.netloc))
    connection.recv(65_536)
    connection.sendall(_subscribe(selector))
    return connection


class Watcher(asyncio.Protocol):
    """One WebSocket connection with one subscription (RFC 6455, as far as it is needed)."""

    def __init__(self, host: str, selector: str, seen: Seen) -> None:
        self._host = host
        self._selector = selector
        self._seen = seen
        self._received = bytearray()
        self._is_open = False
        self._is_closing = False
        self.has_snapshot: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_handshake(self._host))

    @override
    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if not self._is_open:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            assert received.startswith(b"HTTP/1.1 101"), bytes(received)
            del received[: end + 4]
            self._is_open = True
            self._transport.write(_subscribe(self._selector))
        place = 0
        while (bounds := _next_frame(received, place)) is not None:
            self._note(received[bounds[0] : min(bounds[1], bounds[0] + _LOOKED_AT_BYTES)])
            place = bounds[1]
        del received[:place]

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._seen.lost += not self._is_closing

    def close(self) -> None:
        self._is_closing = True
        self._transport.abort()

    def _note(self, beginning: bytearray) -> None:
        now = perf_counter()
        self._seen.frames += 1
        self._seen.sent_bytes += len(beginning)
        if beginning.startswith(b'{"type":"update"'):
            found = _FIRST_TIME.search(beginning)
            if found is not None:
                self._seen.updates.append((int(found[1]), now))
        elif beginning.startswith(b'{"type":"snapshot"') and not self.has_snapshot.done():
            self.has_snapshot.set_result(None)


def _next_frame(received: bytearray, place: int) -> tuple[int, int] | None:
    """Where the payload of the frame begins and ends; None if it is not all there."""
    if len(received) < place + 2:
        return None
    length = received[place + 1]
    start = place + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        length = int.from_bytes(received[start : start + size], "big")
        start += size
    end = start + length
    return (start, end) if len(received) >= end else None


def _handshake(host: str) -> bytes:
    return (
        f"GET /v1/live HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_NONCE}\r\n\r\n"
    ).encode()


def _subscribe(selector: str) -> bytes:
    """A text frame, masked with zeros."""
    text = json.dumps({"type": "subscribe", "id": "a", "match": selector}).encode()
    assert len(text) < 65_536
    return b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text
