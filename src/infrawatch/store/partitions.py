"""Partitions: days of chunks, made ahead and dropped whole; slots of the journal, emptied whole."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_DAYS = text("""
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST('chunks' AS regclass)
""")

# Attaching waits for no reader and no writer; CREATE TABLE … PARTITION OF would stop them all.
_MAKE_DAY = """
CREATE TABLE {name} (LIKE chunks INCLUDING ALL)
"""
_ATTACH_DAY = "ALTER TABLE chunks ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')"

_SHORT_PATIENCE = text("SET LOCAL lock_timeout = '50ms'")
_ONE_AT_A_TIME = text("LOCK TABLE chunks IN SHARE UPDATE EXCLUSIVE MODE")

# A slot may go when all of it is compacted, and has been for so long that nobody reads it any more:
# TRUNCATE does not care for snapshots that still see what it removes.
_IS_SPENT = """
SELECT count(newest.arrived_at) > 0
    AND bool_and(newest.arrived_at < least(h.compacted_until, :before))
        FILTER (WHERE newest.arrived_at IS NOT NULL)
FROM shards h
CROSS JOIN LATERAL (
    SELECT max(arrived_at) AS arrived_at FROM {slot} j WHERE j.shard = h.shard
) AS newest
"""

_SLOTS = text("""
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST('journal' AS regclass) ORDER BY 1
""")

# Snapshots that are older than a transaction hold back the horizon; standbys are not asked.
_NEWEST_TRANSACTION = text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
_OLDEST_READER = text("""
SELECT coalesce(bool_and(NOT (age(backend_xmin) > age(CAST(CAST(:newest AS text) AS xid)))), true)
FROM pg_stat_activity
WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
""")


class PartitionRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def days(self) -> set[date]:
        """The days that chunks have a partition for."""
        return {_to_day(name) for name in (await self._connection.execute(_DAYS)).scalars()}

    async def make_days(self, wanted: Iterable[date]) -> None:
        """Make the partitions that are missing; two processes at once make each one once."""
        missing = set(wanted) - await self.days()
        if not missing:
            return
        await self._connection.execute(_ONE_AT_A_TIME)
        for day in sorted(missing - await self.days()):
            name = _to_name(day)
            await self._connection.execute(text(_MAKE_DAY.format(name=name)))
            end = day + timedelta(days=1)
            attach = _ATTACH_DAY.format(name=name, start=f"{day} UTC", end=f"{end} UTC")
            await self._connection.execute(text(attach))

    async def drop_day(self, day: date) -> None:
        """Drop a day, with all that is in it.

        Raises:
            StoreUnavailable: somebody reads; nothing was dropped, try again soon.
        """
        await self._connection.execute(_SHORT_PATIENCE)
        await self._connection.execute(text(f"DROP TABLE IF EXISTS {_to_name(day)}"))

    async def newest_transaction(self) -> int:
        """A number that is above all transactions that have committed."""
        return int((await self._connection.execute(_NEWEST_TRANSACTION)).scalar_one())

    async def are_all_newer(self, transaction: int) -> bool:
        """Whether everybody who reads now sees what was committed before that transaction."""
        wanted = {"newest": str(transaction % 2**32)}
        return bool((await self._connection.execute(_OLDEST_READER, wanted)).scalar_one())

    async def slots(self) -> list[str]:
        """The journal's partitions."""
        return list((await self._connection.execute(_SLOTS)).scalars())

    async def is_spent(self, slot: str, before: datetime) -> bool:
        """Whether a slot holds anything, all of it compacted and arrived before then."""
        statement = text(_IS_SPENT.format(slot=slot))
        answer = await self._connection.execute(statement, {"before": before})
        return bool(answer.scalar_one())

    async def empty_slot(self, slot: str, *, before: datetime) -> bool:
        """Empty a slot if nothing in it arrived since `before` or waits for compaction.

        Raises:
            StoreUnavailable: somebody uses it; it was left alone.
        """
        if not await self.is_spent(slot, before):
            return False
        await self._connection.execute(_SHORT_PATIENCE)
        await self._connection.execute(text(f"LOCK TABLE {slot} IN ACCESS EXCLUSIVE MODE"))
        if not await self.is_spent(slot, before):
            return False
        await self._connection.execute(text(f"TRUNCATE {slot}"))
        return True


def _to_name(day: date) -> str:
    return f"chunks_{day:%Y%m%d}"


def _to_day(name: str) -> date:
    return datetime.strptime(name, "chunks_%Y%m%d").replace(tzinfo=UTC).date()
