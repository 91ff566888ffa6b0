"""Compaction's part of the store: which shards are due, what they hold, and the cut between."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import NamedTuple

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.errors import StoreUnavailable
from infrawatch.model.samples import Columns
from infrawatch.store.journal import JOINED, UNCOMPACTED
from infrawatch.store.journal_rows import from_packed

log = structlog.get_logger()

# Reads the uncompacted end of each shard's index, and rows without their arrays.
_BACKLOG = text(f"""
SELECT h.shard, h.active_series, sum(j.samples)::bigint AS samples,
    min(j.arrived_at) AS began_at,
    extract(epoch FROM clock_timestamp() - min(j.arrived_at))::float8 AS age_s
{UNCOMPACTED}
GROUP BY h.shard, h.active_series
ORDER BY age_s DESC
""")

# The lock is the mutual exclusion of passes; who comes second leaves the shards to the first.
_LOCK = text("""
SELECT shard, generation, merged_until FROM shards
WHERE shard = ANY(CAST(:shards AS smallint[])) ORDER BY shard FOR UPDATE SKIP LOCKED
""")

_PATIENCE = text("SET LOCAL lock_timeout = '1s'")
# Should the clock have been set back, nothing arrives before what is compacted.
_CLOCK = text("""
SELECT clock_timestamp(), greatest(clock_timestamp(), max(compacted_until)) FROM shards
""")

# Waits for every transaction that has taken its time of arrival and not committed yet.
_WAIT_FOR_WRITERS = text("""
SELECT count(*) FROM (SELECT 1 FROM writers WHERE NOT fenced FOR SHARE) AS held
""")

# Waits for them likewise, and lets no other begin: it will see what this transaction compacted.
_STOP_WRITERS = text("LOCK TABLE writers IN SHARE MODE")

# Shards with more than a pass takes are cut earlier, but not before their first arrival.
_EARLIER_CUT = text(f"""
SELECT min(arrived_at)
FROM (
    SELECT j.arrived_at, sum(j.samples) OVER (ORDER BY j.arrived_at) AS total,
        min(j.arrived_at) OVER () AS first
    {UNCOMPACTED}
    WHERE h.shard = ANY(CAST(:shards AS smallint[])) AND j.arrived_at < :cut
) AS counted
WHERE total > :most AND arrived_at > first
""")

_UNCOMPACTED = text(JOINED.format(wanted="", condition="AND j.arrived_at < :cut"))

# An earlier cut may lie before what some of the shards have compacted: that stays compacted. Once
# more, it would outrank what arrived after it.
_ADVANCE = text("""
UPDATE shards
SET compacted_until = greatest(compacted_until, :cut), generation = :generation,
    active_series = active.series
FROM unnest(CAST(:shards AS smallint[]), CAST(:series AS integer[])) AS active (shard, series)
WHERE shards.shard = active.shard
RETURNING clock_timestamp()
""")

_BUFFERED_ROWS = 64
"""A row can hold a megabyte, and SQLAlchemy would hold a thousand of them."""

_SOON = timedelta(minutes=1)
"""A clock that was set back by less has soon caught up with what is compacted; until then nothing
else is."""

_CLOCKS_AGREE = 0.99
"""Of the seconds we count, the database's clock counts as many; it is slowed down by less."""


class Backlog(NamedTuple):
    """What a shard has to compact, and since when.

    `active_series` is how many series its last pass saw.
    """

    shard: int
    active_series: int
    samples: int
    began_at: datetime
    age_s: float


class Locked(NamedTuple):
    """A shard this transaction holds; its next generation is above `generation`."""

    shard: int
    generation: int
    merged_until: datetime


class Cut(NamedTuple):
    """A pass takes what arrived until then; the database's clock and ours when it was chosen."""

    until: datetime
    clock: datetime
    begun_s: float


class CompactionRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def backlogs(self) -> list[Backlog]:
        """Every shard that has anything to compact, the oldest first."""
        return [Backlog(*row) for row in await self._connection.execute(_BACKLOG)]

    async def lock(self, shards: Sequence[int]) -> list[Locked]:
        """Hold those of the shards that nobody else holds, until the transaction ends."""
        rows = await self._connection.execute(_LOCK, {"shards": list(shards)})
        return [Locked(*row) for row in rows]

    async def cut(self, shards: Sequence[int], *, most_samples: int) -> Cut:
        """A moment before which nothing can arrive any more, and so nothing be overlooked.

        Where the clock was set back by hours, everything arrives at one moment until it has caught
        up. The cut is just after that one then, and writers wait until this transaction has ended.

        Raises:
            StoreUnavailable: a writer's transaction takes more than a second; try again later.
        """
        await self._connection.execute(_PATIENCE)
        clock, latest = (await self._connection.execute(_CLOCK)).one()
        begun_s = monotonic()
        if latest - clock > _SOON:
            log.warning("clock_was_set_back", behind_s=(latest - clock).total_seconds())
            await self._connection.execute(_STOP_WRITERS)
            latest += timedelta.resolution
        else:
            async with self._connection.begin_nested() as savepoint:
                await self._connection.execute(_WAIT_FOR_WRITERS)
                await savepoint.rollback()  # lets go of the writers at once
        wanted = {"shards": list(shards), "cut": latest, "most": most_samples}
        earlier: datetime | None = (
            await self._connection.execute(_EARLIER_CUT, wanted)
        ).scalar_one()
        return Cut(earlier or latest, clock, begun_s)

    async def read(
        self, shards: Sequence[int], cut: Cut, *, at_least: int
    ) -> AsyncGenerator[Columns, None]:
        """What these shards have not compacted of before the cut, in order of arrival.

        Some shards at a time, each with all it has: so many that they have `at_least` samples.
        """
        rows = await self._connection.stream(
            _UNCOMPACTED,
            {"shards": list(shards), "cut": cut.until},
            execution_options={"max_row_buffer": _BUFFERED_ROWS},
        )
        parts: list[Columns] = []
        last = -1
        async for shard, *sent in rows:
            if shard != last and sum(map(len, parts)) >= at_least:
                yield Columns.joined(parts)
                parts = []
            parts.append(from_packed(sent))
            last = shard
        if parts:
            yield Columns.joined(parts)

    async def advance(self, active_series: dict[int, int], *, cut: Cut, generation: int) -> None:
        """Note that shards are compacted up to the cut, and how many series each had.

        Raises:
            StoreUnavailable: the database's clock was set back since the cut, and something may
                have arrived before it meanwhile; roll back and try again.
        """
        counted = timedelta(seconds=_CLOCKS_AGREE * (monotonic() - cut.begun_s))
        clocks = await self._connection.execute(
            _ADVANCE,
            {
                "cut": cut.until,
                "generation": generation,
                "shards": list(active_series),
                "series": list(active_series.values()),
            },
        )
        if min(clocks.scalars()) < cut.clock + counted:
            raise StoreUnavailable("the database's clock was set back; compaction begins again")
