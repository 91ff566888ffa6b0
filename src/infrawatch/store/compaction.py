"""Compaction's part of the store: which shards are due, what they hold, and the cut between."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS, shard_of
from infrawatch.model.samples import Columns, Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store import copy
from infrawatch.store.chunk_rows import CHUNK_FIELDS, from_row
from infrawatch.store.codec import WINDOW_US, Chunks
from infrawatch.store.journal import JOINED_FIELDS, from_packed

# Reads the uncompacted end of each shard's index, and rows without their arrays.
_BACKLOG = text("""
SELECT h.shard, h.active_series, sum(j.samples)::bigint AS samples,
    min(j.arrived_at) AS began_at,
    extract(epoch FROM clock_timestamp() - min(j.arrived_at))::float8 AS age_s
FROM shards h JOIN journal j ON j.shard = h.shard AND j.arrived_at >= h.compacted_until
GROUP BY h.shard, h.active_series
ORDER BY age_s DESC
""")

# The lock is the mutual exclusion of passes; who comes second leaves the shards to the first.
_LOCK = text("""
SELECT shard, generation, merged_until FROM shards
WHERE shard = ANY(CAST(:shards AS smallint[])) ORDER BY shard FOR UPDATE SKIP LOCKED
""")

_LOCK_ALL = text("""
SELECT shard FROM shards WHERE shard BETWEEN :first AND :last ORDER BY shard FOR UPDATE
""")

_PATIENCE = text("SET LOCAL lock_timeout = '1s'")
# Should the clock have been set back, nothing arrives before what is compacted, and the cut stays.
_CLOCK = text("SELECT greatest(clock_timestamp(), max(compacted_until)) FROM shards")

# Waits for every transaction that has taken its time of arrival and not committed yet.
_WAIT_FOR_WRITERS = text("""
SELECT count(*) FROM (SELECT 1 FROM writers WHERE NOT fenced FOR SHARE) AS held
""")

# Shards with more than a pass takes are cut earlier, but not before their first arrival.
_EARLIER_CUT = text("""
SELECT min(arrived_at)
FROM (
    SELECT j.arrived_at, sum(j.samples) OVER (ORDER BY j.arrived_at) AS total,
        min(j.arrived_at) OVER () AS first
    FROM shards h JOIN journal j ON j.shard = h.shard AND j.arrived_at >= h.compacted_until
    WHERE h.shard = ANY(CAST(:shards AS smallint[])) AND j.arrived_at < :cut
) AS counted
WHERE total > :most AND arrived_at > first
""")

# A shard and a minute of arrival at a time and in order, so that the last of equals is the one that
# counts.
_UNCOMPACTED = text(f"""
SELECT {JOINED_FIELDS}
FROM (
    SELECT j.*, date_trunc('minute', j.arrived_at) AS minute
    FROM shards h JOIN journal j ON j.shard = h.shard AND j.arrived_at >= h.compacted_until
    WHERE h.shard = ANY(CAST(:shards AS smallint[])) AND j.arrived_at < :cut
    ORDER BY j.shard, minute, j.arrived_at, j.writer, j.seq, j.first
) AS j
GROUP BY shard, minute ORDER BY shard, minute
""")

_ADVANCE = text("""
UPDATE shards
SET compacted_until = :cut, generation = :generation, active_series = active.series
FROM unnest(CAST(:shards AS smallint[]), CAST(:series AS integer[])) AS active (shard, series)
WHERE shards.shard = active.shard
""")

# Goes along the primary key from where the part before ended, no further than a part reaches.
_NEXT_WINDOWS = text("""
SELECT substr(array_send(array_agg(series_id)), 21),
    substr(array_send(array_agg((extract(epoch FROM at) * 1000000)::bigint)), 21)
FROM (
    SELECT series_id, at
    FROM (
        SELECT shard, series_id, at, sum(count) AS samples,
            sum(sum(count)) OVER (ORDER BY shard, series_id, at) AS total
        FROM (
            SELECT shard, series_id, count,
                date_bin(interval '2 hours', start_at, timestamptz '1970-01-01 00:00Z') AS at
            FROM chunks_head
            WHERE (shard, series_id, start_at) >= (:shard, :series_id, CAST(:at AS timestamptz))
                AND shard <= :last AND start_at < :until
            ORDER BY shard, series_id, start_at LIMIT :most_chunks
        ) AS next
        GROUP BY shard, series_id, at
    ) AS counted
    WHERE total - samples < :most_samples ORDER BY shard, series_id, at LIMIT :most_windows
) AS part
""")

# Numbers come as the text of an array: asyncpg takes a microsecond for each element of a list.
WANTED_WINDOWS = f"""
(
    SELECT CAST(id & {SHARDS - 1} AS smallint) AS shard, id AS series_id,
        timestamptz '1970-01-01 00:00Z' + us * interval '1 microsecond' AS at
    FROM unnest(CAST(CAST(:ids AS text) AS bigint[]), CAST(CAST(:starts AS text) AS bigint[]))
        AS told (id, us)
) AS wanted
"""

# One index descent for each window, in the partitions of these days alone.
_TAKE = f"""
WITH taken AS (
    DELETE FROM {{table}} c USING {WANTED_WINDOWS}
    WHERE c.shard = wanted.shard AND c.series_id = wanted.series_id
        AND c.start_at >= wanted.at AND c.start_at < wanted.at + interval '2 hours'
        AND c.start_at >= :first AND c.start_at < :end
    RETURNING c.*
)
SELECT {CHUNK_FIELDS} FROM (SELECT * FROM taken {{order}}) AS k
"""

# Later generations come later, so that they win.
_TAKE_HEAD = text(_TAKE.format(table="chunks_head", order="ORDER BY generation"))

_TAKE_CLOSED = text(_TAKE.format(table="chunks", order=""))

_UNMERGED = text("SELECT shard FROM shards WHERE merged_until < :until ORDER BY shard")

_MERGED = text("UPDATE shards SET merged_until = :until WHERE shard BETWEEN :first AND :last")

_BUFFERED_ROWS = 64
"""A row can hold a megabyte, and SQLAlchemy would hold a thousand of them."""

_MOST_CHUNKS = 60_000
"""Chunks of the head a part of a merge looks at: about 20 MB."""


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


class Windows(NamedTuple):
    """Windows of series: series `ids[i]` from `starts_us[i]` on, by shard, id and time."""

    ids: Int64s
    starts_us: Int64s

    @property
    def end(self) -> tuple[int, int, int]:
        """The shard and the series of the last one, and where that ends."""
        last = int(self.ids[-1])
        return shard_of(last), last, int(self.starts_us[-1]) + WINDOW_US

    def to_parameters(self) -> dict[str, object]:
        """What `WANTED_WINDOWS` asks for, and the span they lie in."""
        return {
            "ids": copy.to_array_text(self.ids),
            "starts": copy.to_array_text(self.starts_us),
            "first": from_us(int(self.starts_us.min())),
            "end": from_us(int(self.starts_us.max()) + WINDOW_US),
        }


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

    async def lock_all(self, shards: range) -> None:
        """Hold the shards until the transaction ends, once nobody else does."""
        await self._connection.execute(_LOCK_ALL, {"first": shards[0], "last": shards[-1]})

    async def cut(self, shards: Sequence[int], *, most_samples: int) -> datetime:
        """A moment before which nothing can arrive any more, and so nothing be overlooked.

        Raises:
            StoreUnavailable: a writer's transaction takes more than a second; try again later.
        """
        await self._connection.execute(_PATIENCE)
        cut: datetime = (await self._connection.execute(_CLOCK)).scalar_one()
        async with self._connection.begin_nested() as savepoint:
            await self._connection.execute(_WAIT_FOR_WRITERS)
            await savepoint.rollback()  # lets go of the writers at once
        wanted = {"shards": list(shards), "cut": cut, "most": most_samples}
        earlier: datetime | None = (
            await self._connection.execute(_EARLIER_CUT, wanted)
        ).scalar_one()
        return earlier or cut

    async def read(self, shards: Sequence[int], cut: datetime) -> Columns:
        """What these shards have not compacted of before the cut, in order of arrival."""
        rows = await self._connection.stream(
            _UNCOMPACTED,
            {"shards": list(shards), "cut": cut},
            execution_options={"max_row_buffer": _BUFFERED_ROWS},
        )
        return Columns.joined([from_packed(sent) async for sent in rows])

    async def advance(
        self, active_series: dict[int, int], *, cut: datetime, generation: int
    ) -> None:
        """Note that shards are compacted up to the cut, and how many series each had."""
        await self._connection.execute(
            _ADVANCE,
            {
                "cut": cut,
                "generation": generation,
                "shards": list(active_series),
                "series": list(active_series.values()),
            },
        )

    async def find_windows(
        self,
        shards: range,
        after: tuple[int, int, int],
        until: datetime,
        *,
        most: int,
        most_samples: int,
    ) -> Windows:
        """The head's next windows after that shard, series and time that begin before `until`.

        At most so many, and no more once they hold so many samples; but one if there is any.
        """
        shard, series_id, at_us = max(after, (shards[0], 0, 0))
        wanted = {
            "shard": shard,
            "series_id": series_id,
            "at": from_us(at_us),
            "last": shards[-1],
            "until": until,
            "most_chunks": _MOST_CHUNKS,
            "most_samples": most_samples,
            "most_windows": most,
        }
        sent = (await self._connection.execute(_NEXT_WINDOWS, wanted)).one()
        return Windows(*(copy.from_joined_elements(one or b"") for one in sent))

    async def take_head(self, windows: Windows) -> Chunks:
        """Remove these windows from the head; what was compacted first comes first."""
        return from_row(await self._take(_TAKE_HEAD, windows))

    async def take_closed(self, windows: Windows) -> Chunks:
        """Remove what is closed already of these windows."""
        return from_row(await self._take(_TAKE_CLOSED, windows))

    async def unmerged(self, until: datetime) -> list[int]:
        """The shards whose head has not been merged up to then."""
        return list((await self._connection.execute(_UNMERGED, {"until": until})).scalars())

    async def note_merged(self, shards: range, until: datetime) -> None:
        noted = {"first": shards[0], "last": shards[-1], "until": until}
        await self._connection.execute(_MERGED, noted)

    async def _take(self, statement: TextClause, windows: Windows) -> Sequence[bytes | None]:
        return (await self._connection.execute(statement, windows.to_parameters())).one()
