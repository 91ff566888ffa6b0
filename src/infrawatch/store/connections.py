"""Connections to PostgreSQL over a road that can fall silent without a word."""

import asyncio
import socket
from asyncio import BaseTransport
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import inf
from time import monotonic

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine.interfaces import AdaptedConnection
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry
from typing_extensions import override

CLOSE_TIMEOUT_S = 0.5
"""A server that is gone without a word never says goodbye, and somebody waits for an answer."""

FIRST_TRY_S = 2.0
"""What was sent while the road was silent is lost, and a second try may find it open again."""

UNPROVEN_S = 0.05
"""A connection that has rested for so long is asked whether it stands. That costs a fifth of a
millisecond; a statement that nobody ever answers would cost its whole deadline. No PostgreSQL goes
and is back within this, so whoever asks after that meets no connection from before."""

PROOF_WITHIN_S = 1.0

_KEEPALIVE_AFTER_S, _KEEPALIVE_EVERY_S, _KEEPALIVES = 2, 1, 3
"""After five seconds without a sign of the other side, each gives a connection up: who waits for an
answer hears so, and what was locked is free."""

_USER_TIMEOUT_MS = 5_000

SERVER_SETTINGS = {
    "tcp_keepalives_idle": str(_KEEPALIVE_AFTER_S),
    "tcp_keepalives_interval": str(_KEEPALIVE_EVERY_S),
    "tcp_keepalives_count": str(_KEEPALIVES),
}
"""PostgreSQL's half of it; on a Unix socket it takes no notice."""

_OPTIONS = {  # those that a system does not have are left out
    "TCP_KEEPIDLE": _KEEPALIVE_AFTER_S,
    "TCP_KEEPALIVE": _KEEPALIVE_AFTER_S,  # what macOS calls the same
    "TCP_KEEPINTVL": _KEEPALIVE_EVERY_S,
    "TCP_KEEPCNT": _KEEPALIVES,
    "TCP_USER_TIMEOUT": _USER_TIMEOUT_MS,
}

_GONE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

_RETURNED_AT = "infrawatch_returned_at"


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """Hears of it when the other side is gone, and closes within a bound."""

    def __init__(self, protocol: object, transport: BaseTransport, *rest: object) -> None:
        super().__init__(protocol, transport, *rest)
        _keep_alive(transport)

    @override
    async def close(self, *, timeout: float | None = None) -> None:
        # SQLAlchemy's pools would wait for longer, or for ever.
        await super().close(timeout=min(timeout or CLOSE_TIMEOUT_S, CLOSE_TIMEOUT_S))


async def connect(
    *where: object,
    timeout: float,  # noqa: ASYNC109  # SQLAlchemy hands on what asyncpg calls so
    **how: object,
) -> Connection:
    """Connect within so many seconds, in two tries if there is time.

    Raises:
        OSError: nobody is there, or nobody answers (TimeoutError).
        asyncpg.PostgresError: PostgreSQL refuses.
    """
    connected: Connection
    how["connection_class"] = Connection
    try:
        connected = await asyncpg.connect(*where, timeout=min(timeout, FIRST_TRY_S), **how)
    except TimeoutError:
        if timeout <= FIRST_TRY_S:
            raise
        connected = await asyncpg.connect(*where, timeout=timeout - FIRST_TRY_S, **how)
    return connected


class Lender:
    """Lends connections of a pool, and keeps the last one at hand for who comes next.

    To return it to the pool and to get it from there takes longer than to send a group.
    """

    def __init__(self, engine: AsyncEngine, *, pool_size: int) -> None:
        self._engine = engine
        self._pool_size = pool_size
        self._lent = 0
        self._at_hand: AsyncConnection | None = None
        self._returned_s = -inf

    @property
    def lent(self) -> int:
        """How many connections are in use."""
        return self._lent

    @asynccontextmanager
    async def lending(self) -> AsyncGenerator[AsyncConnection, None]:
        """A connection without a transaction; after an error the pool looks at it."""
        connection = await self._take()
        self._lent += 1
        is_good = False
        try:
            yield connection
            is_good = True
        finally:
            self._lent -= 1
            # Others wait for the pool, so its last one goes back.
            if is_good and self._at_hand is None and self._lent + 1 < self._pool_size:
                self._at_hand, self._returned_s = connection, monotonic()
            else:
                await asyncio.shield(connection.close())

    async def close(self) -> None:
        """Close the pool, and what is at hand."""
        await self._return()
        await self._engine.dispose()

    async def _take(self) -> AsyncConnection:
        connection = self._at_hand
        if connection is not None:
            is_proven = monotonic() - self._returned_s < UNPROVEN_S
            if is_proven and not to_driver(connection).is_closed():
                self._at_hand = None
                return connection
            await self._return()
        return await self._engine.connect()

    async def _return(self) -> None:
        connection, self._at_hand = self._at_hand, None
        if connection is not None:
            await asyncio.shield(connection.close())


def hand_out_proven(engine: AsyncEngine) -> None:
    """Let the pool replace a connection that is gone before anybody uses it.

    If one has gone without a word, all others that rest in the pool are replaced, too.
    """
    event.listen(engine.sync_engine, "checkout", _prove)
    event.listen(engine.sync_engine, "checkin", _note_return)


def to_driver(connection: AsyncConnection) -> Connection:
    """What SQLAlchemy itself asks. To go past it takes a third of the time for a short question."""
    proxied = connection.sync_connection
    assert proxied is not None
    driver = proxied.connection.driver_connection
    assert isinstance(driver, Connection)
    return driver


def _prove(connection: AdaptedConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
    driver = connection.driver_connection
    if driver.is_closed():
        raise DisconnectionError("the server has closed the connection")
    if driver.is_in_transaction():
        raise DisconnectionError("whoever had it before has not ended its transaction")
    if monotonic() - record.info.get(_RETURNED_AT, inf) < UNPROVEN_S:
        return
    try:
        connection.run_async(_ask)
    except _GONE as error:
        driver.terminate()  # it would not hear a goodbye either
        raise InvalidatePoolError("nobody answers") from error


async def _ask(driver: Connection) -> None:
    await driver.execute("SELECT 1", timeout=PROOF_WITHIN_S)


def _note_return(_connection: AdaptedConnection | None, record: ConnectionPoolEntry) -> None:
    record.info[_RETURNED_AT] = monotonic()


def _keep_alive(transport: BaseTransport) -> None:
    line = transport.get_extra_info("socket")
    if line is None or line.family == getattr(socket, "AF_UNIX", None):
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
