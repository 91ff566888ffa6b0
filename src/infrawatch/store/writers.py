"""Writers: who commits, and how often each has; what makes commits countable without holes."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.cursor import Cursor

_REGISTER = text("INSERT INTO writers DEFAULT VALUES RETURNING writer, clock_timestamp()")

# Waits for a transaction that still holds the row, so what it returns is final.
_FENCE = text("UPDATE writers SET fenced = true WHERE writer = :writer RETURNING last_seq")

# One that is at work holds its row's lock, or has just been heard of.
_FORGET = text("""
DELETE FROM writers WHERE writer IN (
    SELECT writer FROM writers WHERE last_at < clock_timestamp() - CAST(:silence AS interval)
    FOR UPDATE SKIP LOCKED)
""")

_POSITIONS = text("""
SELECT writer, last_seq, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM writers
WHERE CAST(:window AS interval) IS NULL
    OR last_at >= clock_timestamp() - CAST(:window AS interval)
""")

# Whoever advances a writer locks the table so until the commit. The clock is read before the locks.
_UNDER_WAY = text("""
SELECT (extract(epoch FROM least(statement_timestamp(), min(a.xact_start))) * 1000000)::bigint
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.relation = 'writers'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
""")

_CLOCK = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")

_REACHED = text("""
SELECT count(*)
FROM unnest(CAST(:writers AS bigint[]), CAST(:seqs AS bigint[])) AS wanted (writer, seq)
JOIN writers USING (writer) WHERE writers.last_seq >= wanted.seq
""")


class Fenced(Exception):
    """This writer may not commit any more; take a new one. Between store and ingest, no answer."""


class Registered(NamedTuple):
    """A new writer, and what the database's clock said."""

    writer: int
    at: datetime


class WriterPositions(NamedTuple):
    """The seq of each writer's last commit, and the database's clock in µs."""

    seqs: Mapping[int, int]
    at_us: int


class WriterRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def register(self) -> Registered:
        """Take a new writer, whose next seq is 1."""
        return Registered._make((await self._connection.execute(_REGISTER)).one())

    async def fence(self, writer: int) -> int:
        """Let the writer never commit again; answer the seq of its last commit.

        Waits until a transaction of that writer, if there still is one, has ended. One that was
        forgotten for its silence has committed nothing that anybody can still ask for: 0.
        """
        answer = await self._connection.execute(_FENCE, {"writer": writer})
        return int(answer.scalar_one_or_none() or 0)

    async def forget_silent(self, silence: timedelta) -> None:
        """Remove writers that have not committed for so long; a live one takes a new number."""
        await self._connection.execute(_FORGET, {"silence": silence})

    async def positions(self, window: timedelta | None = None) -> WriterPositions:
        """How far the writers are, all or those that committed lately, in this snapshot."""
        rows = (await self._connection.execute(_POSITIONS, {"window": window})).all()
        if not rows:
            return WriterPositions({}, int((await self._connection.execute(_CLOCK)).scalar_one()))
        return WriterPositions({writer: seq for writer, seq, _ in rows}, rows[0][2])

    async def under_way_since(self) -> int:
        """Whatever is not visible in a later snapshot arrives, or arrived, after this, in µs.

        Transactions of other PostgreSQL roles cannot be seen.
        """
        return int((await self._connection.execute(_UNDER_WAY)).scalar_one())

    async def has_reached(self, cursor: Cursor) -> bool:
        """Whether everything the cursor names is visible in this snapshot."""
        wanted = {"writers": list(cursor.seqs), "seqs": list(cursor.seqs.values())}
        answer = await self._connection.execute(_REACHED, wanted)
        return bool(answer.scalar_one() == len(cursor.seqs))
