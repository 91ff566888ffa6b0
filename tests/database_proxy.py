"""A road to PostgreSQL that breaks in the ways real ones do."""

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

_GROUP = re.compile(rb"(__asyncpg_\w+)\0\s*SELECT [^\0]*append_group")
"""How asyncpg prepares the statement that writes a group, and names it; it is executed by name."""


NOTICED_AFTER_S = 5.0
"""When PostgreSQL gives up a connection on which nobody answers its keepalives. Ours are always
answered, by the machine."""


class Road(Enum):
    OPEN = "everything passes"
    CLOSED = "connections are reset"
    SILENT = "connections stand, and what is sent on them is lost, goodbyes too"


class AtCommit(Enum):
    """What befalls the next group, which is committed by the statement that brings it."""

    LOSE_QUESTION = "it never arrives, and the connection is reset"
    LOSE_ANSWER = "it is done, and the connection is reset instead of saying so"
    SWALLOW_ANSWER = "it is done, and nobody ever says so"


@dataclass(slots=True, eq=False)
class _Link:
    """One connection, from who asks (near) to PostgreSQL (far)."""

    near: StreamWriter
    far: StreamWriter
    group: bytes | None = None
    """Executes the statement that writes a group, once it is prepared."""
    fate: AtCommit | None = None
    is_mute: bool = False

    def reset(self) -> None:
        self.near.transport.abort()
        self.far.transport.abort()


@dataclass(slots=True)
class DatabaseProxy:
    """Stands between a server and its PostgreSQL; `url` leads through it."""

    url: str
    target: tuple[str, int]
    road: Road = Road.OPEN
    at_commit: AtCommit | None = None
    is_silent_in_group: bool = False
    """Whether only half of the next group arrives, and nothing more on its connection."""
    delay_s: float = 0.0
    _links: set[_Link] = field(default_factory=set)

    def close(self) -> None:
        """Break every connection there is, and each one that is made from now on."""
        self.road = Road.CLOSED
        for link in self._links:
            link.reset()

    def forget_connections(self) -> None:
        """Let nothing more pass on those there are, as firewalls do that have lost their tables."""
        for link in self._links:
            link.is_mute = True

    async def carry(self, near_reader: StreamReader, near: StreamWriter) -> None:
        if self.road is Road.CLOSED:
            near.transport.abort()
            return
        far_reader, far = await asyncio.open_connection(*self.target)
        link = _Link(near, far)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                answers = tasks.create_task(self._carry_answers(far_reader, link))
                await self._carry_questions(near_reader, link)
                if link.is_mute:
                    await asyncio.wait([answers], timeout=NOTICED_AFTER_S)
                link.reset()
        finally:
            self._links.discard(link)
            link.reset()

    async def _carry_questions(self, reader: StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while data := await self._read(reader, link):
                if link.group is not None and link.group in data:
                    link.fate, self.at_commit = self.at_commit, None
                    link.is_mute, self.is_silent_in_group = self.is_silent_in_group, False
                elif (prepared := _GROUP.search(data)) is not None:
                    link.group = b"\0%b\0" % prepared[1]
                if link.fate is AtCommit.LOSE_QUESTION:
                    break
                link.far.write(data[: len(data) // 2] if link.is_mute else data)
                await link.far.drain()

    async def _carry_answers(self, reader: StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while data := await self._read(reader, link):
                if link.fate is AtCommit.LOSE_ANSWER:
                    break
                if link.fate is None:
                    link.near.write(data)
                    await link.near.drain()
        if not link.is_mute:
            link.reset()

    async def _read(self, reader: StreamReader, link: _Link) -> bytes:
        """The next bytes that are not lost; what was silent once has lost its place for good."""
        while True:
            data = await reader.read(65_536)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            link.is_mute = link.is_mute or self.road is Road.SILENT
            if not data or not link.is_mute:
                return data


@asynccontextmanager
async def proxied(database_url: str) -> AsyncGenerator[DatabaseProxy, None]:
    """Run a proxy before a database until the block ends."""
    parts = urlsplit(database_url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = DatabaseProxy("", (parts.hostname, parts.port))
    async with await asyncio.start_server(proxy.carry, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        proxy.url = database_url.replace(f":{parts.port}/", f":{port}/")
        try:
            yield proxy
        finally:
            proxy.close()
