"""Partitions: of chunks and rollups, dropped whole; slots of the journal, emptied whole."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.buckets import FIVE_MINUTES, HOUR

_NAMES = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST('{table}' AS regclass)
"""

# Attaching waits for no reader and no writer; CREATE TABLE … PARTITION OF would stop them all.
_MAKE = "CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"

# Counting what is in arrays takes PostgreSQL 13 µs a row of chunks, each time a tenth is new; no
# plan depends on it. A table like another one does not take this over.
_COUNT_NOT = "ALTER TABLE {name} {columns}"
_ATTACH = """
ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{start} UTC') TO ('{end} UTC')
"""

_SHORT_PATIENCE = text("SET LOCAL lock_timeout = '50ms'")
_ONE_AT_A_TIME = "LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE"

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


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A table that is cut into days, or into months if it is small; they are named by `form`.

    Of its columns `packed` PostgreSQL keeps no statistics.
    """

    table: str
    form: str
    packed: Sequence[str]

    def start_of(self, day: date) -> date:
        """The first day of the partition that a day belongs to."""
        return self.from_name(self.to_name(day))

    def end_of(self, start: date) -> date:
        """The first day of the partition after this one."""
        longest = timedelta(days=1 if "%d" in self.form else 31)
        return self.start_of(start + longest)

    def to_name(self, day: date) -> str:
        return f"{self.table}_{day.strftime(self.form)}"

    def from_name(self, name: str) -> date:
        form = f"{self.table}_{self.form}"
        return datetime.strptime(name, form).replace(tzinfo=UTC).date()


CHUNKS = Partitioned("chunks", "%Y%m%d", ("times", "deltas", "raw"))
ROLLUPS = {
    resolution: Partitioned(resolution.table, "%Y%m", ("facts", "words", "raw"))
    for resolution in (FIVE_MINUTES, HOUR)
}


class PartitionRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, parted: Partitioned) -> set[date]:
        """The first days of the partitions there are."""
        names = await self._connection.execute(text(_NAMES.format(table=parted.table)))
        return {parted.from_name(name) for name in names.scalars()}

    async def make(self, parted: Partitioned, days: Iterable[date]) -> None:
        """Make those partitions for these days that are missing; two processes make each once."""
        wanted = {parted.start_of(day) for day in days}
        if not wanted - await self.find(parted):
            return
        table = parted.table
        columns = ", ".join(f"ALTER {column} SET STATISTICS 0" for column in parted.packed)
        await self._connection.execute(text(_ONE_AT_A_TIME.format(table=table)))
        for start in sorted(wanted - await self.find(parted)):
            name = parted.to_name(start)
            await self._connection.execute(text(_MAKE.format(table=table, name=name)))
            await self._connection.execute(text(_COUNT_NOT.format(name=name, columns=columns)))
            attach = _ATTACH.format(table=table, name=name, start=start, end=parted.end_of(start))
            await self._connection.execute(text(attach))

    async def drop(self, parted: Partitioned, start: date) -> None:
        """Drop a partition, with all that is in it.

        Raises:
            StoreUnavailable: somebody reads; nothing was dropped, try again soon.
        """
        await self._connection.execute(_SHORT_PATIENCE)
        await self._connection.execute(text(f"DROP TABLE IF EXISTS {parted.to_name(start)}"))

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
