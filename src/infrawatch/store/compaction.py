"""Queries for compaction: the backlog of each shard, its uncompacted samples, and the cut."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import NamedTuple

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.errors import StoreUnavailable
from infrawatch.model.samples import Columns
from infrawatch.store.columns.varbits import NUMBER_BYTES
from infrawatch.store.journal import JOINED, UNCOMPACTED
from infrawatch.store.journal_rows import from_packed

log = structlog.get_logger()

# Reads the uncompacted end of each shard's index, and rows without their packed columns.
_BACKLOG = text(f"""
SELECT h.shard, h.active_series, sum(j.samples)::bigint AS samples,
    min(j.arrived_at) AS began_at,
    extract(epoch FROM clock_timestamp() - min(j.arrived_at))::float8 AS age_s
{UNCOMPACTED}
GROUP BY h.shard, h.active_series
ORDER BY age_s DESC
""")

# Row locks keep passes apart; a second pass skips the shards that the first has locked.
_LOCK = text("""
SELECT shard, generation FROM shards
WHERE shard = ANY(CAST(:shards AS smallint[])) ORDER BY shard FOR UPDATE SKIP LOCKED
""")

_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '1s'")
# Even if the clock was set back, nothing arrives before `compacted_until`.
_CLOCK = text("""
SELECT clock_timestamp(), greatest(clock_timestamp(), max(compacted_until)) FROM shards
""")

# Waits for every transaction that has a time of arrival but has not committed yet.
_WAIT_FOR_WRITERS = text("""
SELECT count(*) FROM (SELECT 1 FROM writers WHERE NOT fenced FOR SHARE) AS held
""")

# Waits for them as well, and blocks new ones until this transaction's result is visible to them.
_STOP_WRITERS = text("LOCK TABLE writers IN SHARE MODE")

# If the shards hold more than a pass takes, the cut is earlier, but after their first arrival.
_EARLIER_CUT = text(f"""
SELECT min(arrived_at)
FROM (
    SELECT j.arrived_at, sum(sum(j.samples)) OVER (ORDER BY j.arrived_at) AS total,
        min(j.arrived_at) OVER () AS first
    {UNCOMPACTED}
    WHERE h.shard = ANY(CAST(:shards AS smallint[])) AND j.arrived_at < :cut
    GROUP BY j.arrived_at
) AS counted
WHERE total > :max_samples AND arrived_at > first
""")

_UNCOMPACTED = text(JOINED.format(join="", condition="AND j.arrived_at < :cut"))

# An earlier cut may lie before the position of some shards, which must not move back: compacted a
# second time, old samples would take precedence over those that arrived after them.
_ADVANCE = text("""
UPDATE shards
SET compacted_until = greatest(compacted_until, :cut), generation = :generation,
    active_series = active.series
FROM unnest(CAST(:shards AS smallint[]), CAST(:series AS integer[])) AS active (shard, series)
WHERE shards.shard = active.shard
RETURNING clock_timestamp()
""")

_BUFFERED_ROWS = 64
"""A row can hold a megabyte, and SQLAlchemy would buffer a thousand of them."""

_MAX_CLOCK_STEP = timedelta(minutes=1)
"""A clock set back by less soon catches up with `compacted_until`; until then nothing is
compacted."""

_MIN_CLOCK_RATE = 0.99
"""The least part of the elapsed time that the database's clock must count; slewing slows it less.
"""


class Backlog(NamedTuple):
    """The uncompacted samples of a shard, and since when they wait.

    `active_series` is the number of series in the shard's last pass.
    """

    shard: int
    active_series: int
    samples: int
    began_at: datetime
    age_s: float


class Locked(NamedTuple):
    """A shard locked by this transaction; its next generation is above `generation`."""

    shard: int
    generation: int


class Cut(NamedTuple):
    """A pass takes samples that arrived before `until`.

    `clock` and `begun_s` are the database's and this process' clock when the cut was chosen.
    """

    until: datetime
    clock: datetime
    begun_s: float


class CompactionRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def backlogs(self) -> list[Backlog]:
        """Return the backlog of every shard that has one, the oldest first."""
        return [Backlog(*row) for row in await self._connection.execute(_BACKLOG)]

    async def lock(self, shards: Sequence[int]) -> list[Locked]:
        """Lock those of the shards that are not locked, until the transaction ends."""
        rows = await self._connection.execute(_LOCK, {"shards": list(shards)})
        return [Locked(*row) for row in rows]

    async def cut(self, shards: Sequence[int], *, max_samples: int | None) -> Cut:
        """Choose a time before which nothing can arrive any more, so that nothing is missed.

        With `max_samples`, samples are counted, and if there are more, the cut is earlier.

        If the clock was set back by more than a minute, every group arrives at `compacted_until`
        until the clock has caught up. The cut is then just after it, and writers wait until this
        transaction ends.

        Raises:
            StoreUnavailable: a writer's transaction takes more than a second; try again later.
        """
        await self._connection.execute(_LOCK_TIMEOUT)
        clock, latest = (await self._connection.execute(_CLOCK)).one()
        begun_s = monotonic()
        if latest - clock > _MAX_CLOCK_STEP:
            log.warning("clock_was_set_back", behind_s=(latest - clock).total_seconds())
            await self._connection.execute(_STOP_WRITERS)
            latest += timedelta.resolution
        else:
            async with self._connection.begin_nested() as savepoint:
                await self._connection.execute(_WAIT_FOR_WRITERS)
                await savepoint.rollback()  # releases the writers at once
        if max_samples is not None:
            parameters = {"shards": list(shards), "cut": latest, "max_samples": max_samples}
            latest = (await self._connection.execute(_EARLIER_CUT, parameters)).scalar() or latest
        return Cut(latest, clock, begun_s)

    async def read(
        self, shards: Sequence[int], cut: Cut, *, at_least: int
    ) -> AsyncGenerator[Columns, None]:
        """Yield the uncompacted samples of these shards before the cut, in order of arrival.

        Each item holds whole shards and, except for the last, at least `at_least` samples.
        """
        rows = await self._connection.stream(
            _UNCOMPACTED,
            {"shards": list(shards), "cut": cut.until},
            execution_options={"max_row_buffer": _BUFFERED_ROWS},
        )
        parts: list[Sequence[bytes]] = []
        samples, last = 0, -1
        async for shard, *sent in rows:
            if shard != last and samples >= at_least:
                yield from_packed(*parts)
                parts, samples = [], 0
            parts.append(sent)
            samples += len(sent[-1]) // NUMBER_BYTES
            last = shard
        if parts:
            yield from_packed(*parts)

    async def advance(self, active_series: dict[int, int], *, cut: Cut, generation: int) -> None:
        """Record that shards are compacted up to the cut, and how many series each had.

        Raises:
            StoreUnavailable: the database's clock was set back since the cut, and something may
                have arrived before it meanwhile; roll back and try again.
        """
        counted = timedelta(seconds=_MIN_CLOCK_RATE * (monotonic() - cut.begun_s))
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
