"""Connections to PostgreSQL over a network that may drop packets without any error."""

import asyncio
import socket
from asyncio import BaseTransport
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
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
"""An unreachable server never completes the closing handshake, and a caller is waiting."""

FIRST_TRY_S = 2.0
"""Packets sent during an outage are lost; a second try may find the network working again."""

PROBE_AFTER_S = 0.05
"""A connection idle for longer is probed before use. The probe costs a fifth of a millisecond; a
statement on a dead connection would cost its whole deadline. No PostgreSQL restarts within this
time, so connections from before a restart are always probed."""

PROBE_TIMEOUT_S = 1.0

_KEEPALIVE_AFTER_S, _KEEPALIVE_EVERY_S, _KEEPALIVES = 2, 1, 3
"""After five seconds without a sign of its peer, either side gives the connection up: a waiting
caller gets an error, and PostgreSQL releases the locks."""

_USER_TIMEOUT_MS = 5_000

SERVER_SETTINGS = {
    "tcp_keepalives_idle": str(_KEEPALIVE_AFTER_S),
    "tcp_keepalives_interval": str(_KEEPALIVE_EVERY_S),
    "tcp_keepalives_count": str(_KEEPALIVES),
}
"""The same for PostgreSQL's side, which ignores these on Unix sockets."""

_OPTIONS = {  # options that a platform lacks are skipped
    "TCP_KEEPIDLE": _KEEPALIVE_AFTER_S,
    "TCP_KEEPALIVE": _KEEPALIVE_AFTER_S,  # the name of TCP_KEEPIDLE on macOS
    "TCP_KEEPINTVL": _KEEPALIVE_EVERY_S,
    "TCP_KEEPCNT": _KEEPALIVES,
    "TCP_USER_TIMEOUT": _USER_TIMEOUT_MS,
}

_GONE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

_RETURNED_AT = "infrawatch_returned_at"

_ARRAY_OIDS = {  # the same in every database (PostgreSQL, pg_type.dat)
    "int2": (21, 1005),
    "int4": (23, 1007),
    "int8": (20, 1016),
    "float8": (701, 1022),
    "timestamptz": (1184, 1185),
    "uuid": (2950, 2951),
}

_ARRAYS = [
    {
        "oid": array_oid,
        "name": f"_{name}",
        "ns": "pg_catalog",
        "kind": b"b",
        "elemtype": oid,
        "elemdelim": b",",
        "basetype": None,
        "range_subtype": None,
        "attrtypoids": None,
        "attrnames": None,
    }
    for name, (oid, array_oid) in _ARRAY_OIDS.items()
]
"""Types of arrays, as asyncpg's query for unknown types describes them. The first statement of a
connection to use one would cause that query, which takes PostgreSQL 6 to 13 ms, and asyncpg 2."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that detects a dead peer by TCP keepalive and closes within a bounded time."""

    def __init__(self, protocol: object, transport: BaseTransport, *rest: object) -> None:
        super().__init__(protocol, transport, *rest)
        _keep_alive(transport)

    def learn_arrays(self) -> None:
        """Register arrays of the types of columns, for which asyncpg would ask PostgreSQL.

        Not part of asyncpg's interface: a version in which it fails asks, as all do for others.
        """
        with suppress(AttributeError, LookupError, TypeError):
            self._protocol.get_settings().register_data_types(_ARRAYS)

    @override
    async def close(self, *, timeout: float | None = None) -> None:
        # SQLAlchemy's pools would wait longer, or for ever.
        await super().close(timeout=min(timeout or CLOSE_TIMEOUT_S, CLOSE_TIMEOUT_S))


async def connect(
    *where: object,
    timeout: float,  # noqa: ASYNC109  # asyncpg's argument, passed on by SQLAlchemy
    **how: object,
) -> Connection:
    """Connect within `timeout` seconds, in two tries if there is time.

    Raises:
        OSError: the server cannot be reached, or does not answer (TimeoutError).
        asyncpg.PostgresError: PostgreSQL refuses the connection.
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
    """Lends connections of a pool, and keeps the last one at hand for the next borrower.

    Returning it to the pool and checking it out again takes longer than sending a group.
    """

    def __init__(self, engine: AsyncEngine, *, pool_size: int) -> None:
        self._engine = engine
        self._pool_size = pool_size
        self._lent = 0
        self._at_hand: AsyncConnection | None = None
        self._returned_s = -inf

    @property
    def lent(self) -> int:
        """The number of connections in use."""
        return self._lent

    @asynccontextmanager
    async def lending(self) -> AsyncGenerator[AsyncConnection, None]:
        """Lend a connection outside a transaction; after an error it goes back to the pool."""
        connection = await self._take()
        self._lent += 1
        is_good = False
        try:
            yield connection
            is_good = True
        finally:
            self._lent -= 1
            # Other borrowers wait on the pool, so its last connection goes back to it.
            if is_good and self._at_hand is None and self._lent + 1 < self._pool_size:
                self._at_hand, self._returned_s = connection, monotonic()
            else:
                await asyncio.shield(connection.close())

    async def close(self) -> None:
        """Close the pool and the connection at hand."""
        await self._return()
        await self._engine.dispose()

    async def _take(self) -> AsyncConnection:
        connection = self._at_hand
        if connection is not None:
            is_fresh = monotonic() - self._returned_s < PROBE_AFTER_S
            if is_fresh and not to_driver(connection).is_closed():
                self._at_hand = None
                return connection
            await self._return()
        return await self._engine.connect()

    async def _return(self) -> None:
        connection, self._at_hand = self._at_hand, None
        if connection is not None:
            await asyncio.shield(connection.close())


def prepare_connections(engine: AsyncEngine) -> None:
    """Let connections learn types once they are set up: what SQLAlchemy sets up forgets them."""
    event.listen(engine.sync_engine, "connect", _learn_arrays)


def probe_idle_connections(engine: AsyncEngine) -> None:
    """Let the pool probe idle connections at checkout, and replace those that are dead.

    If a probe fails, all other idle connections of the pool are replaced, too.
    """
    event.listen(engine.sync_engine, "checkout", _probe)
    event.listen(engine.sync_engine, "checkin", _note_return)


def to_driver(connection: AsyncConnection) -> Connection:
    """Return the asyncpg connection. For short statements it takes a third of SQLAlchemy's time."""
    proxied = connection.sync_connection
    assert proxied is not None
    driver = proxied.connection.driver_connection
    assert isinstance(driver, Connection)
    return driver


def to_driver_in_transaction(connection: AsyncConnection) -> Connection:
    """Return the asyncpg connection, in the open transaction."""
    driver = to_driver(connection)
    # SQLAlchemy opens a transaction only with the first statement it executes itself.
    assert driver.is_in_transaction()
    return driver


def _learn_arrays(connection: AdaptedConnection, _record: ConnectionPoolEntry) -> None:
    connection.driver_connection.learn_arrays()


def _probe(connection: AdaptedConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
    driver = connection.driver_connection
    if driver.is_closed():
        raise DisconnectionError("the server has closed the connection")
    if driver.is_in_transaction():
        raise DisconnectionError("its previous user left a transaction open")
    if monotonic() - record.info.get(_RETURNED_AT, inf) < PROBE_AFTER_S:
        return
    try:
        connection.run_async(_select_one)
    except _GONE as error:
        driver.terminate()  # an orderly close would not be answered either
        raise InvalidatePoolError("the server does not answer") from error


async def _select_one(driver: Connection) -> None:
    await driver.execute("SELECT 1", timeout=PROBE_TIMEOUT_S)


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
