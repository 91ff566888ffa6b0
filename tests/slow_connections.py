"""Connections that never finish their requests, and a sender that works next to them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import perf_counter
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from httpx import AsyncClient
from pushing import push, series

T = TypeVar("T")

HEAD = b"POST /v1/samples HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HALVES = {
    "no request": b"",
    "half a method": b"PO",
    "half a head": HEAD,
    "half a header": HEAD + b"X-Slow: lo",
    "half a body": HEAD + b'Content-Length: 1000\r\n\r\n{"series":[',
    "half a chunk": HEAD + b'Transfer-Encoding: chunked\r\n\r\n40\r\n{"ser',
}
"""What is sent of a request before nothing more comes."""


class Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def rest(self) -> bytes:
        """All that comes until the other side hangs up; what it did not read does not matter."""
        received = b""
        with suppress(ConnectionError):
            while more := await self.reader.read(65_536):
                received += more
        return received


@asynccontextmanager
async def connection(
    url: str, sent: bytes, source: str = "127.0.0.1"
) -> AsyncGenerator[Connection]:
    """Connect from an address of this machine and send something; not more, and never the end."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, local_addr=(source, 0)
    )
    try:
        writer.write(sent)
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def half_open(url: str, count: int) -> AsyncGenerator[Sequence[Connection]]:
    """Many connections, each with another half of a request."""
    halves = list(HALVES.values())
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(connection(url, halves[number % len(halves)]))
            for number in range(count)
        ]


async def push_during(client: AsyncClient, work: Awaitable[T]) -> tuple[T, list[float]]:
    """Push one batch after the other during another operation; returns their durations, sorted.

    Raises:
        AssertionError: a batch was not stored.
    """
    took: list[float] = []
    working = asyncio.ensure_future(work)
    while not working.done() or not took:
        started = perf_counter()
        answer = await push(client, series("healthy"))
        assert answer.status_code == 200, answer.text
        took.append(perf_counter() - started)
    return await working, sorted(took)
