"""Cheap clients: one keeps a request in flight on each connection, one asks for answers.

They read no more of HTTP than the status and length of an answer: on a small machine a client must
not take from the server what is to be measured.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from math import nan
from time import perf_counter
from typing import Self
from urllib.parse import urlencode, urlsplit

from typing_extensions import override

from benchmarks.workload import Batch

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"


@dataclass(slots=True)
class Outcome:
    """What became of all requests; `refused` are the first answers that were no success."""

    samples: int = 0
    latencies_s: list[float] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    wall_s: float = 0.0

    def plus(self, later: Self) -> Self:
        """Both, one after the other."""
        return type(self)(
            self.samples + later.samples,
            self.latencies_s + later.latencies_s,
            self.refused + later.refused,
            self.wall_s + later.wall_s,
        )

    def percentile_ms(self, percent: float) -> float:
        """How long so many percent of the requests took at most; NaN if there were none."""
        if not self.latencies_s:
            return nan
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


async def drive(
    url: str, headers: Mapping[str, str], batches: Iterable[Batch], *, connections: int
) -> Outcome:
    """Send every batch; those of one group over one connection, so that they arrive in order.

    Raises:
        ConnectionError: the server hung up.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    head = to_head(url, headers)
    lanes: list[list[Batch]] = [[] for _ in range(connections)]
    for batch in batches:
        lanes[batch.group % connections].append(batch)
    outcome = Outcome()
    loop = asyncio.get_running_loop()
    started = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for lane in filter(None, lanes):
            _, sender = await loop.create_connection(
                partial(_Sender, head, iter(lane), outcome), parts.hostname, parts.port or 80
            )
            tasks.create_task(sender.finished())
    outcome.wall_s = perf_counter() - started
    return outcome


def to_head(url: str, headers: Mapping[str, str]) -> bytes:
    """A request up to its length, which its body follows after an empty line."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = {"Host": parts.netloc, **headers}.items()
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"POST {target} HTTP/1.1\r\n{fields}Content-Length: ".encode()


def is_complete(received: bytes) -> bool:
    """Whether the answer is here: all say how long they are, or are empty (204)."""
    head, separator, body = received.partition(_HEAD_END)
    if not separator:
        return False
    length = head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)


class Line:
    """A connection to ask for answers, one after the other, as large as a browser gets them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, address: str) -> AsyncGenerator[Self, None]:
        parts = urlsplit(address)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def ask(
        self, path: str, parameters: Mapping[str, str], *, encodings: str = "gzip, br, zstd"
    ) -> bytes:
        """The body of an answer that is a success and says how long it is."""
        fields = f"Host: localhost\r\nAccept-Encoding: {encodings}\r\n\r\n"
        self._writer.write(f"GET {path}?{urlencode(parameters)} HTTP/1.1\r\n{fields}".encode())
        head = await self._reader.readuntil(_HEAD_END)
        length = head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0]
        body = await self._reader.readexactly(int(length or 0))
        if not head.startswith(b"HTTP/1.1 200 ") or not body:
            raise ConnectionError((head + body).decode(errors="replace"))
        return body


class _Sender(asyncio.Protocol):
    """One connection: sends a batch when the one before it is answered."""

    def __init__(self, head: bytes, batches: Iterator[Batch], outcome: Outcome) -> None:
        self._head = head
        self._batches = batches
        self._outcome = outcome
        self._end = asyncio.get_running_loop().create_future()
        self._received = b""

    async def finished(self) -> None:
        await self._end

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        if is_complete(self._received):
            self._note()
            self._send()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self._end.done():
            self._end.set_exception(exc or ConnectionError("the server hung up"))

    def _send(self) -> None:
        batch = next(self._batches, None)
        if batch is None:
            self._end.set_result(None)
            self._transport.close()
            return
        self._batch = batch
        self._sent_at = perf_counter()
        self._transport.writelines((self._head, b"%d\r\n\r\n" % len(batch.body), batch.body))

    def _note(self) -> None:
        self._outcome.latencies_s.append(perf_counter() - self._sent_at)
        if self._received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 204 ")):
            self._outcome.samples += self._batch.samples
        elif not self._outcome.refused:
            self._outcome.refused.append(self._received)
        self._received = b""
