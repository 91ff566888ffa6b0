"""Partitions of chunks and rollups, which are dropped; slots of the journal, which are emptied."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.rollups.buckets import FIVE_MINUTES, HOUR

_NAMES = text("""
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST(CAST(:table AS text) AS regclass) ORDER BY 1
""")

# ATTACH PARTITION blocks neither readers nor writers; CREATE TABLE … PARTITION OF blocks both.
_MAKE = "CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"

# ANALYZE of array columns takes 13 µs per row of chunks, each time a tenth of the rows is new, and
# no plan depends on it. CREATE TABLE … LIKE does not copy this setting.
_NO_STATISTICS = "ALTER TABLE {name} {columns}"
_ATTACH = """
ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{start} UTC') TO ('{end} UTC')
"""

_SHORT_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '50ms'")
_ONE_AT_A_TIME = "LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE"

# A slot may be emptied once all of it has been compacted for so long that no reader needs it:
# TRUNCATE also removes rows that older snapshots still see.
_IS_SPENT = """
SELECT count(newest.arrived_at) > 0
    AND bool_and(newest.arrived_at < least(h.compacted_until, :before))
        FILTER (WHERE newest.arrived_at IS NOT NULL)
FROM shards h
CROSS JOIN LATERAL (
    SELECT max(arrived_at) AS arrived_at FROM {slot} j WHERE j.shard = h.shard
) AS newest
"""

# The oldest row of each shard is the first entry of its index.
_OLDEST_ARRIVAL = """
SELECT min(oldest.arrived_at) FROM shards h
CROSS JOIN LATERAL (
    SELECT min(arrived_at) AS arrived_at FROM {slot} j WHERE j.shard = h.shard
) AS oldest
"""

# Snapshots older than a transaction hold back backend_xmin; standbys are not considered.
_NEWEST_TRANSACTION = text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
_OLDEST_READER = text("""
SELECT coalesce(bool_and(NOT (age(backend_xmin) > age(CAST(CAST(:newest AS text) AS xid)))), true)
FROM pg_stat_activity
WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
""")


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A table partitioned by day, or by month if it is small; `form` names the partitions.

    PostgreSQL keeps no statistics of the columns `packed`.
    """

    name: str
    form: str
    packed: Sequence[str]

    def start_of(self, day: date) -> date:
        """Return the first day of the partition that contains a day."""
        return self.from_name(self.to_name(day))

    def end_of(self, start: date) -> date:
        """Return the first day of the partition after the one that begins at `start`."""
        longest = timedelta(days=1 if "%d" in self.form else 31)
        return self.start_of(start + longest)

    def to_name(self, day: date) -> str:
        return f"{self.name}_{day.strftime(self.form)}"

    def from_name(self, name: str) -> date:
        form = f"{self.name}_{self.form}"
        return datetime.strptime(name, form).replace(tzinfo=UTC).date()


CHUNKS = PartitionedTable("chunks", "%Y%m%d", ("times", "deltas", "raw"))
ROLLUPS = {
    resolution: PartitionedTable(resolution.table, "%Y%m", ("facts", "words", "raw"))
    for resolution in (FIVE_MINUTES, HOUR)
}


class PartitionRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, table: PartitionedTable) -> set[date]:
        """Return the first days of the existing partitions."""
        return {table.from_name(name) for name in await self._names(table.name)}

    async def make(self, table: PartitionedTable, days: Iterable[date]) -> None:
        """Create missing partitions for these days; concurrent processes create each only once."""
        starts = {table.start_of(day) for day in days}
        if not starts - await self.find(table):
            return
        columns = ", ".join(f"ALTER {column} SET STATISTICS 0" for column in table.packed)
        await self._connection.execute(text(_ONE_AT_A_TIME.format(table=table.name)))
        for start in sorted(starts - await self.find(table)):
            name = table.to_name(start)
            await self._connection.execute(text(_MAKE.format(table=table.name, name=name)))
            await self._connection.execute(text(_NO_STATISTICS.format(name=name, columns=columns)))
            end = table.end_of(start)
            attach = _ATTACH.format(table=table.name, name=name, start=start, end=end)
            await self._connection.execute(text(attach))

    async def drop(self, table: PartitionedTable, start: date) -> None:
        """Drop a partition and its contents.

        Raises:
            StoreUnavailable: the table is being read; nothing was dropped, try again soon.
        """
        await self._connection.execute(_SHORT_LOCK_TIMEOUT)
        await self._connection.execute(text(f"DROP TABLE IF EXISTS {table.to_name(start)}"))

    async def newest_transaction(self) -> int:
        """Return a transaction number above those of all committed transactions."""
        return int((await self._connection.execute(_NEWEST_TRANSACTION)).scalar_one())

    async def are_all_newer(self, transaction: int) -> bool:
        """Whether every open snapshot sees everything committed before `transaction`."""
        parameters = {"newest": str(transaction % 2**32)}
        return bool((await self._connection.execute(_OLDEST_READER, parameters)).scalar_one())

    async def slots(self) -> list[str]:
        """Return the names of the journal's partitions that are not empty, oldest arrival first."""
        oldest = {name: await self._oldest_arrival(name) for name in await self._names("journal")}
        return [name for _, name in sorted((at, name) for name, at in oldest.items() if at)]

    async def is_spent(self, slot: str, before: datetime) -> bool:
        """Whether a slot is not empty, and all of it is compacted and arrived before `before`."""
        statement = text(_IS_SPENT.format(slot=slot))
        answer = await self._connection.execute(statement, {"before": before})
        return bool(answer.scalar_one())

    async def empty_slot(self, slot: str, *, before: datetime) -> bool:
        """Empty a slot if it is spent (see `is_spent`); return whether it was emptied.

        Raises:
            StoreUnavailable: the slot is in use; it was not changed.
        """
        if not await self.is_spent(slot, before):
            return False
        await self._connection.execute(_SHORT_LOCK_TIMEOUT)
        await self._connection.execute(text(f"LOCK TABLE {slot} IN ACCESS EXCLUSIVE MODE"))
        if not await self.is_spent(slot, before):
            return False
        await self._connection.execute(text(f"TRUNCATE {slot}"))
        return True

    async def _oldest_arrival(self, slot: str) -> datetime | None:
        answer = await self._connection.execute(text(_OLDEST_ARRIVAL.format(slot=slot)))
        at: datetime | None = answer.scalar_one()
        return at

    async def _names(self, table: str) -> list[str]:
        return list((await self._connection.execute(_NAMES, {"table": table})).scalars())
