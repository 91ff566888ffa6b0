"""Writers: each numbers its own commits, without gaps."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.cursor import Cursor

_REGISTER = text("INSERT INTO writers DEFAULT VALUES RETURNING writer, clock_timestamp()")

# Waits for a transaction that still holds the row's lock, so the result is final.
_FENCE = text("UPDATE writers SET fenced = true WHERE writer = :writer RETURNING last_seq")

# A writer at work holds its row's lock, or has committed recently.
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

# A transaction that advances a writer holds this lock until it commits. The clock is read before
# the locks are.
_UNDER_WAY = text("""
SELECT (extract(epoch FROM least(statement_timestamp(), min(a.xact_start))) * 1000000)::bigint
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.relation = 'writers'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
""")

_CLOCK = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")

_REACHED = text("""
SELECT count(*)
FROM unnest(CAST(:writers AS bigint[]), CAST(:seqs AS bigint[])) AS requested (writer, seq)
JOIN writers USING (writer) WHERE writers.last_seq >= requested.seq
""")


class Fenced(Exception):
    """The writer may not commit any more; ingest catches this and registers a new one."""


class Registered(NamedTuple):
    """A new writer, and the database's clock at its registration."""

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
        """Register a new writer, whose next seq is 1."""
        return Registered._make((await self._connection.execute(_REGISTER)).one())

    async def fence(self, writer: int) -> int:
        """Bar the writer from committing again; return the seq of its last commit.

        Waits for a transaction of the writer that is still open. Returns 0 for a writer that was
        removed for its silence: it committed nothing that can still be asked for.
        """
        answer = await self._connection.execute(_FENCE, {"writer": writer})
        return int(answer.scalar_one_or_none() or 0)

    async def forget_silent(self, silence: timedelta) -> None:
        """Remove writers that have not committed for `silence`; a live one registers again."""
        await self._connection.execute(_FORGET, {"silence": silence})

    async def positions(self, window: timedelta | None = None) -> WriterPositions:
        """Return the positions in this snapshot of all writers, or of those active in `window`."""
        rows = (await self._connection.execute(_POSITIONS, {"window": window})).all()
        if not rows:
            return WriterPositions({}, int((await self._connection.execute(_CLOCK)).scalar_one()))
        return WriterPositions({writer: seq for writer, seq, _ in rows}, rows[0][2])

    async def under_way_since(self) -> int:
        """Return a time in µs; groups that a later snapshot does not see arrive after it.

        Transactions of other PostgreSQL roles are not taken into account.
        """
        return int((await self._connection.execute(_UNDER_WAY)).scalar_one())

    async def has_reached(self, cursor: Cursor) -> bool:
        """Whether every commit up to the cursor is visible in this snapshot."""
        parameters = {"writers": list(cursor.seqs), "seqs": list(cursor.seqs.values())}
        answer = await self._connection.execute(_REACHED, parameters)
        return bool(answer.scalar_one() == len(cursor.seqs))
