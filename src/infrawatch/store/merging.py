"""Merging's part of the store: which windows have ended, and what they hold in both tiers."""

from datetime import datetime
from typing import NamedTuple

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS, shard_of
from infrawatch.model.samples import Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store import copy
from infrawatch.store.chunk_rows import CHUNK_FIELDS, from_row
from infrawatch.store.codec import WINDOW_US, Chunks
from infrawatch.store.ragged import Bools

_LOCK = text("""
SELECT shard FROM shards WHERE shard BETWEEN :first AND :last ORDER BY shard FOR UPDATE
""")

# Goes along the primary key from where the part before ended, no further than a part reaches.
_NEXT_WINDOWS = text("""
SELECT substr(array_send(array_agg(series_id)), 21),
    substr(array_send(array_agg((extract(epoch FROM at) * 1000000)::bigint)), 21)
FROM (
    SELECT series_id, at
    FROM (
        SELECT shard, series_id, at, sum(count)::integer AS samples,
            sum(sum(count)::integer) OVER (ORDER BY shard, series_id, at) AS total
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

# One index descent for each window, in the partitions of these days alone. Of a series what is
# closed comes first and later generations later, so that they win; mostly that is also the order of
# time, and nothing is left to be sorted.
_OF_WINDOWS = f"""
USING {WANTED_WINDOWS}
WHERE c.shard = wanted.shard AND c.series_id = wanted.series_id
    AND c.start_at >= wanted.at AND c.start_at < wanted.at + interval '2 hours'
    AND c.start_at >= :first AND c.start_at < :end
"""
_TAKE = text(f"""
WITH closed AS (DELETE FROM chunks c {_OF_WINDOWS} RETURNING -1::bigint AS generation, c.*),
    head AS (DELETE FROM chunks_head c {_OF_WINDOWS} RETURNING c.*)
SELECT string_agg(int2send((generation < 0)::integer::smallint), ''), {CHUNK_FIELDS}
FROM (TABLE closed UNION ALL TABLE head ORDER BY series_id, generation, start_at) AS k
""")

_UNMERGED = text("SELECT shard FROM shards WHERE merged_until < :until ORDER BY shard")

_MERGED = text("UPDATE shards SET merged_until = :until WHERE shard BETWEEN :first AND :last")

_MOST_CHUNKS = 80_000
"""Chunks of the head a part of a merge looks at: about 25 MB."""


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


class Taken(NamedTuple):
    """Chunks of some windows, by series; of each, what comes later wins."""

    chunks: Chunks
    was_closed: Bools

    @property
    def closed_windows(self) -> Windows:
        """What had been closed already, by any time in it."""
        return Windows(
            self.chunks.series_ids[self.was_closed], self.chunks.starts_us[self.was_closed]
        )


class MergeRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lock(self, shards: range) -> None:
        """Hold the shards until the transaction ends, once nobody else does."""
        await self._connection.execute(_LOCK, {"first": shards[0], "last": shards[-1]})

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

    async def take(self, windows: Windows) -> Taken:
        """Remove these windows, from the head and from what is closed already."""
        row = (await self._connection.execute(_TAKE, windows.to_parameters())).one()
        was_closed, *fields = row
        return Taken(from_row(fields), np.frombuffer(was_closed or b"", ">i2") != 0)

    async def unmerged(self, until: datetime) -> list[int]:
        """The shards whose head has not been merged up to then."""
        return list((await self._connection.execute(_UNMERGED, {"until": until})).scalars())

    async def note_merged(self, shards: range, until: datetime) -> None:
        noted = {"first": shards[0], "last": shards[-1], "until": until}
        await self._connection.execute(_MERGED, noted)
