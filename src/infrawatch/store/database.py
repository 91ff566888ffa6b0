"""`Database` hands out transactions; driver errors become InfraWatch's own errors only here."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Literal, Self

import asyncpg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool

from infrawatch.errors import (
    DeadlineExceeded,
    InfraWatchError,
    Overloaded,
    StoreConflict,
    StoreRefusal,
    StoreUnavailable,
)
from infrawatch.store.connections import (
    SERVER_SETTINGS,
    Lender,
    connect,
    prepare_connections,
    probe_idle_connections,
    to_driver,
)

CONNECT_TIMEOUT_S = 5.0
"""A PostgreSQL that takes longer to answer counts as down; senders keep their samples."""

_SLACK = timedelta(seconds=1)
"""How much longer than PostgreSQL's own deadline the driver waits for an answer."""

_LIBPQ_ONLY = ("channel_binding", "gssencmode", "target_session_attrs", "sslcert", "sslkey")
_QUERY_CANCELED = "57014"
_CONFLICTS = ("40001", "40P01")
_UNAVAILABLE_CLASSES = ("08", "25", "28", "3D", "40", "53", "55", "57", "58")
"""SQLSTATE classes that concern the server, not the statement (PostgreSQL docs, Appendix A)."""

_WHY = {
    "25006": ": it may only be read; is it a standby?",
    "28P01": ": the user or the password is wrong",
    "3D000": ": it has no database of that name",
    "53100": ": its disk is full; free some of it",
    "53200": ": its memory is used up",
    "53300": ": it has no connection left; raise its max_connections",
}
"""Explanations of rare errors that only an operator can fix."""

_ENDED = ("08", "57P")
"""SQLSTATE prefixes of errors that end a connection, possibly just after its work was committed."""


_Raw = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises when it is called directly, as COPY is, without SQLAlchemy."""


def to_asyncpg_url(url: str) -> tuple[URL, dict[str, object]]:
    """Translate a libpq URL into a URL for SQLAlchemy and connect arguments for asyncpg.

    `sslmode`, `application_name` and `connect_timeout` are translated; parameters that only libpq
    knows are dropped.
    """
    parsed = make_url(url).set(drivername="postgresql+asyncpg")
    query = {name: str(value) for name, value in parsed.query.items() if name not in _LIBPQ_ONLY}
    arguments: dict[str, object] = {
        "timeout": float(query.pop("connect_timeout", CONNECT_TIMEOUT_S))
    }
    if (mode := query.pop("sslmode", None)) is not None:
        arguments["ssl"] = mode
    arguments["server_settings"] = {
        "application_name": query.pop("application_name", "infrawatch"),
        "TimeZone": "UTC",
        # With daily partitions, PostgreSQL's cost estimates are high enough to trigger JIT
        # compilation, which takes longer than running the query.
        "jit": "off",
    }
    return parsed.set(query=query), arguments


def create_engine(
    url: str,
    *,
    pool_size: int = 2,
    server_settings: Mapping[str, str] | None = None,
    deadline: timedelta | None = None,
    isolation: Literal["AUTOCOMMIT"] | None = None,
) -> AsyncEngine:
    """Create a pool that connects on first use and never grows beyond `pool_size`.

    PostgreSQL cancels a statement at the deadline; if it does not answer, the driver gives up soon
    after.
    """
    parsed, arguments = to_asyncpg_url(url)
    settings = arguments["server_settings"]
    assert isinstance(settings, dict)
    settings |= SERVER_SETTINGS | dict(server_settings or {})
    arguments["async_creator_fn"] = connect
    if deadline is not None:
        settings["statement_timeout"] = _milliseconds(deadline)
        arguments["command_timeout"] = (deadline + _SLACK).total_seconds()
    # Looked up in its module at each call, because tracing replaces it there.
    engine = sqlalchemy_asyncio.create_async_engine(
        parsed,
        connect_args=arguments,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_use_lifo=True,
        isolation_level=isolation,
        hide_parameters=True,  # in errors, hence in logs: they contain senders' data
    )
    prepare_connections(engine)
    probe_idle_connections(engine)
    return engine


class Database:
    """Hands out transactions; no other code commits.

    Reads and writes use separate pools, so a burst of queries never makes a group of samples wait
    for a connection.
    """

    def __init__(self, writing: Lender, reading: AsyncEngine) -> None:
        self._writing = writing
        self._reading = reading

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        write_pool_size: int = 4,
        read_pool_size: int = 8,
        write_deadline: timedelta = timedelta(seconds=10),
        read_deadline: timedelta = timedelta(seconds=20),
    ) -> AsyncGenerator[Self, None]:
        """Open both pools; each deadline applies to a single statement."""
        writing = create_engine(
            url,
            pool_size=write_pool_size,
            deadline=write_deadline,
            server_settings={
                "synchronous_commit": "on",
                "default_transaction_isolation": "read committed",
                "idle_in_transaction_session_timeout": _milliseconds(write_deadline),
            },
        )
        reading = create_engine(
            url,
            pool_size=read_pool_size,
            deadline=read_deadline,
            isolation="AUTOCOMMIT",  # `reading` begins and ends transactions itself
            server_settings={
                "default_transaction_isolation": "repeatable read",
                "default_transaction_read_only": "on",
                # Each statement has one good plan. Planning it anew, across daily partitions and
                # the eight of the journal, would take longer than most statements run.
                "plan_cache_mode": "force_generic_plan",
                "idle_in_transaction_session_timeout": _milliseconds(read_deadline * 2),
            },
        )
        lender = Lender(writing, pool_size=write_pool_size)
        try:
            yield cls(lender, reading)
        finally:
            await lender.close()
            await reading.dispose()

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection, None]:
        """Open a transaction that commits when the block ends and rolls back if it raises.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached or refuses work; if that happened
                while committing, the outcome is unknown.
            Overloaded: all connections are in use; nothing was stored.
            DeadlineExceeded: a statement took too long; nothing was stored.
        """
        with _translating_driver_errors():
            async with (
                self._writing.lending() as connection,
                connection.begin(),
                _discarded_on_cancellation(connection),
            ):
                yield connection

    @asynccontextmanager
    async def committing(self) -> AsyncGenerator[AsyncConnection, None]:
        """Lend a connection for one statement, sent without SQLAlchemy, that commits by itself.

        Raises:
            StoreRefusal: PostgreSQL refuses work; nothing was stored.
            StoreUnavailable: PostgreSQL cannot be reached; if the statement was already sent, the
                outcome is unknown.
            Overloaded: all connections are in use; nothing was stored.
            DeadlineExceeded: the statement took too long; nothing was stored.
        """
        with _translating_driver_errors():
            async with (
                self._writing.lending() as connection,
                _discarded_on_cancellation(connection),
            ):
                yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection, None]:
        """Open a read-only transaction with one snapshot; PostgreSQL itself rejects writes in it.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached.
            Overloaded: all connections stayed in use until the pool's timeout.
            DeadlineExceeded: a statement took too long.
        """
        with _translating_driver_errors():
            async with (
                self._reading.connect() as connection,
                _discarded_on_cancellation(connection),
                _snapshot(connection),
            ):
                yield connection

    def connections(self) -> Mapping[str, int]:
        """Return the number of connections in use, by pool."""
        pool = self._reading.pool
        assert isinstance(pool, QueuePool)
        return {"write": self._writing.lent, "read": pool.checkedout()}


@asynccontextmanager
async def _discarded_on_cancellation(connection: AsyncConnection) -> AsyncGenerator[None, None]:
    """Discard the connection if its caller stopped waiting for an answer.

    A ROLLBACK could only be sent after that answer. SQLAlchemy handles this for its own statements,
    but does not see an interrupted COPY.
    """
    try:
        yield
    except (asyncio.CancelledError, TimeoutError):
        await connection.invalidate()
        raise


@asynccontextmanager
async def _snapshot(connection: AsyncConnection) -> AsyncGenerator[None, None]:
    """Run a transaction without SQLAlchemy, whose BEGIN and COMMIT take longer than the read."""
    driver = to_driver(connection)
    await driver.execute("BEGIN")
    try:
        yield
    except (asyncio.CancelledError, TimeoutError):
        raise  # the connection is about to be discarded
    except BaseException:
        await driver.execute("ROLLBACK")
        raise
    await driver.execute("COMMIT")


@contextmanager
def _translating_driver_errors() -> Generator[None, None, None]:
    try:
        yield
    except InfraWatchError:
        raise
    except PoolTimeoutError as error:
        raise Overloaded(
            "all connections to PostgreSQL are in use; try again, with less at once"
        ) from error
    except (OSError, TimeoutError, InterfaceError) as error:
        raise StoreUnavailable(
            "PostgreSQL cannot be reached; nothing is lost if you send again"
        ) from error
    except DBAPIError as error:
        raise _translated(error, error.orig, is_gone=error.connection_invalidated) from error
    except _Raw as error:
        raise _translated(error, error, is_gone=False) from error


def _translated(error: Exception, cause: BaseException | None, *, is_gone: bool) -> Exception:
    state = str(getattr(cause, "sqlstate", None) or "")
    if state == _QUERY_CANCELED:
        return DeadlineExceeded("PostgreSQL took longer than the deadline allows")
    message = f"PostgreSQL refuses work for now{_WHY.get(state, '')} (SQLSTATE {state or 'none'})"
    if is_gone or not state or state.startswith(_ENDED):
        return StoreUnavailable(message)
    if state in _CONFLICTS:
        return StoreConflict(message)
    return StoreRefusal(message) if state[:2] in _UNAVAILABLE_CLASSES else error


def _milliseconds(duration: timedelta) -> str:
    return str(duration // timedelta(milliseconds=1))
