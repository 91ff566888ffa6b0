"""One `Database` hands out transactions; driver errors become ours here and nowhere else."""

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
    hand_out_proven,
    to_driver,
)

CONNECT_TIMEOUT_S = 5.0
"""A server that does not answer by then is as good as down; senders keep their samples."""

_SLACK = timedelta(seconds=1)
"""How much longer than the server's deadline we wait for an answer that may never come."""

_LIBPQ_ONLY = ("channel_binding", "gssencmode", "target_session_attrs", "sslcert", "sslkey")
_QUERY_CANCELED = "57014"
_CONFLICTS = ("40001", "40P01")
_UNAVAILABLE_CLASSES = ("08", "25", "28", "3D", "40", "53", "55", "57", "58")
"""SQLSTATE classes that say something about the server, not about the statement (Appendix A)."""

_WHY = {
    "25006": ": it may only be read; is it a standby?",
    "53100": ": its disk is full; free some of it",
    "53200": ": its memory is used up",
    "53300": ": it has no connection left; raise its max_connections",
}
"""What is seldom and not ours to mend, said in words."""

_ENDED = ("08", "57P")
"""Of these, those that end a connection, even one whose work was just committed."""


_Raw = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What COPY raises, which goes past SQLAlchemy."""


def to_asyncpg_url(url: str) -> tuple[URL, dict[str, object]]:
    """Turn a URL as users have it (libpq's) into SQLAlchemy's, and asyncpg's own arguments.

    `sslmode`, `application_name` and `connect_timeout` are translated; what only libpq
    knows is left out.
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
        # With a partition a day, plans look dear enough to PostgreSQL to be compiled, which then
        # takes longer than running them.
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
    """Make a pool; it connects when first used, and never grows beyond `pool_size`.

    PostgreSQL itself ends a statement at the deadline; if it does not say so, we give up as well.
    """
    parsed, arguments = to_asyncpg_url(url)
    settings = arguments["server_settings"]
    assert isinstance(settings, dict)
    settings |= SERVER_SETTINGS | dict(server_settings or {})
    arguments["async_creator_fn"] = connect
    if deadline is not None:
        settings["statement_timeout"] = _milliseconds(deadline)
        arguments["command_timeout"] = (deadline + _SLACK).total_seconds()
    # By its module's name, because tracing puts another in its place.
    engine = sqlalchemy_asyncio.create_async_engine(
        parsed,
        connect_args=arguments,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_use_lifo=True,
        isolation_level=isolation,
        hide_parameters=True,  # in errors, hence in logs: they are what senders sent
    )
    hand_out_proven(engine)
    return engine


class Database:
    """Hands out transactions; nothing else in the code base commits.

    Reading and writing have pools of their own: a burst of queries never keeps a group
    of samples waiting for a connection.
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
        """Open both pools; the deadlines are those of a statement."""
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
                # Our statements have one good plan each; making it anew, with a partition a day
                # and eight of the journal, would take longer than most of them run.
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
        """Commit on leaving the block, roll back if it raises.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached or refuses work; if that happened
                while committing, the outcome is unknown.
            Overloaded: all connections were in use; nothing was stored.
            DeadlineExceeded: a statement took too long; nothing was stored.
        """
        with _driver_errors_are_ours():
            async with (
                self._writing.lending() as connection,
                connection.begin(),
                _dropped_if_given_up(connection),
            ):
                yield connection

    @asynccontextmanager
    async def committing(self) -> AsyncGenerator[AsyncConnection, None]:
        """A connection for one statement past SQLAlchemy, which is a transaction of its own.

        Raises:
            StoreRefusal: PostgreSQL refuses work; nothing was stored.
            StoreUnavailable: it cannot be reached; if it was asked already, the outcome is unknown.
            Overloaded: all connections were in use; nothing was stored.
            DeadlineExceeded: the statement took too long; nothing was stored.
        """
        with _driver_errors_are_ours():
            async with self._writing.lending() as connection, _dropped_if_given_up(connection):
                yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection, None]:
        """One read-only snapshot; PostgreSQL itself refuses writes in it.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached.
            Overloaded: all connections were in use for as long as it takes to make one.
            DeadlineExceeded: a statement took too long.
        """
        with _driver_errors_are_ours():
            async with (
                self._reading.connect() as connection,
                _dropped_if_given_up(connection),
                _snapshot(connection),
            ):
                yield connection

    def connections(self) -> Mapping[str, int]:
        """How many connections of each pool are in use now."""
        pool = self._reading.pool
        assert isinstance(pool, QueuePool)
        return {"write": self._writing.lent, "read": pool.checkedout()}


@asynccontextmanager
async def _dropped_if_given_up(connection: AsyncConnection) -> AsyncGenerator[None, None]:
    """Use a connection no more on which somebody has stopped waiting for an answer.

    A ROLLBACK would wait for that answer before it is sent. SQLAlchemy knows that, but sees nothing
    of what is given up in the middle of a COPY.
    """
    try:
        yield
    except (asyncio.CancelledError, TimeoutError):
        await connection.invalidate()
        raise


@asynccontextmanager
async def _snapshot(connection: AsyncConnection) -> AsyncGenerator[None, None]:
    """A transaction past SQLAlchemy, which takes longer to begin and end one than to read."""
    driver = to_driver(connection)
    await driver.execute("BEGIN")
    try:
        yield
    except (asyncio.CancelledError, TimeoutError):
        raise  # nobody uses the connection any more
    except BaseException:
        await driver.execute("ROLLBACK")
        raise
    await driver.execute("COMMIT")


@contextmanager
def _driver_errors_are_ours() -> Generator[None, None, None]:
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
    told = f"PostgreSQL refuses work for now{_WHY.get(state, '')} (SQLSTATE {state or 'none'})"
    if is_gone or not state or state.startswith(_ENDED):
        return StoreUnavailable(told)
    if state in _CONFLICTS:
        return StoreConflict(told)
    return StoreRefusal(told) if state[:2] in _UNAVAILABLE_CLASSES else error


def _milliseconds(duration: timedelta) -> str:
    return str(duration // timedelta(milliseconds=1))
