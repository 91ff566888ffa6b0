"""Queries for merging: which windows have ended, and their samples in the head and in chunks."""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import NamedTuple, Self

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store.chunks.codec import MAX_SAMPLES, WINDOW_US, Chunks
from infrawatch.store.chunks.head_rows import HEAD_ROW, HeadSamples
from infrawatch.store.chunks.head_rows import from_row as from_head
from infrawatch.store.chunks.rows import CHUNK_FIELDS, from_row
from infrawatch.store.columns import copy
from infrawatch.store.columns.ragged import Runs, are_first
from infrawatch.store.selection.requested_ids import block_of

_LOCK = text("""
SELECT shard FROM shards WHERE shard BETWEEN :first AND :last ORDER BY shard FOR UPDATE
""")

# Walks the index from the end of the previous part, and no further than one part reaches. The
# weight of a window is the most samples it may yield: late samples also bring in its chunks.
_NEXT_BLOCKS = text(f"""
SELECT array_agg(shard), array_agg(block), array_agg(window_at)
FROM (
    SELECT shard, block, window_at, weight,
        sum(weight) OVER (ORDER BY shard, block, window_at) AS total
    FROM (
        SELECT shard, block, window_at,
            greatest(sum(samples), {MAX_SAMPLES} * sum(series) / count(DISTINCT generation))
                AS weight
        FROM (
            SELECT shard, block, window_at, generation, samples, length(runs) / 256 AS series
            FROM chunks_head
            WHERE (shard, block, window_at) > (:shard, :block, CAST(:at AS timestamptz))
                AND shard <= :last AND window_at < :until
            ORDER BY shard, block, window_at LIMIT :max_rows
        ) AS next
        GROUP BY shard, block, window_at
    ) AS weighed
) AS counted
WHERE total - weight < :max_samples
""")

# Returned row by row: sorted and concatenated in SQL, they would go through a temporary file.
_TAKE_HEAD = text(f"""
DELETE FROM chunks_head k
USING unnest(CAST(:shards AS smallint[]), CAST(:blocks AS bigint[]),
    CAST(:windows AS timestamptz[])) AS requested (shard, block, at)
WHERE k.shard = requested.shard AND k.block = requested.block AND k.window_at = requested.at
RETURNING k.generation, {HEAD_ROW}
""")

# Series with consecutive numbers are one range, mostly all those of a host: a text of every series
# took us longer to write, and PostgreSQL to read, than the search in its index takes.
REQUESTED_WINDOWS = f"""
(
    SELECT CAST(first_id & {SHARDS - 1} AS smallint) AS shard, first_id, last_id,
        timestamptz '1970-01-01 00:00Z' + us * interval '1 microsecond' AS at
    FROM unnest(CAST(CAST(:first_ids AS text) AS bigint[]),
        CAST(CAST(:last_ids AS text) AS bigint[]), CAST(CAST(:starts AS text) AS bigint[]))
        AS series_windows (first_id, last_id, us)
) AS requested
"""

# One index scan per range: a join of another kind reads all chunks of these days.
_ONLY_NESTED_LOOPS = text("""
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)
""")
_TAKE_CLOSED = text(f"""
WITH taken AS (
    DELETE FROM chunks c
    USING {REQUESTED_WINDOWS}
    WHERE c.shard = requested.shard
        AND c.series_id BETWEEN requested.first_id AND requested.last_id
        AND c.start_at >= requested.at AND c.start_at < requested.at + interval '2 hours'
        AND c.start_at >= :first AND c.start_at < :end
    RETURNING c.*
)
SELECT {CHUNK_FIELDS} FROM taken AS k
""")

_UNMERGED = text("SELECT shard FROM shards WHERE merged_until < :until ORDER BY shard")

_MERGED = text("UPDATE shards SET merged_until = :until WHERE shard BETWEEN :first AND :last")

_MAX_ROWS = 20_000
"""The rows of the head that one part of a merge examines; full ones hold nine million samples."""


class Blocks(NamedTuple):
    """Windows of blocks, each stored in rows of its own: by shard, block and time."""

    shards: Sequence[int]
    numbers: Sequence[int]
    starts_at: Sequence[datetime]

    @classmethod
    def joined(cls, parts: "Sequence[Blocks]") -> Self:
        """Concatenate the parts."""
        return cls(*(list(chain.from_iterable(one)) for one in zip(*parts, strict=True)))

    @property
    def last(self) -> tuple[int, int, datetime]:
        """The last window, after which the next part begins."""
        return self.shards[-1], self.numbers[-1], self.starts_at[-1]


class Windows(NamedTuple):
    """Windows of series: series `ids[i]` from `starts_us[i]` on."""

    ids: Int64s
    starts_us: Int64s

    @classmethod
    def of(cls, ids: Int64s, times_us: Int64s, length_us: int) -> Self:
        """Return the distinct windows of `length_us` that hold these times of series.

        They are sorted by (start, shard, series).
        """
        starts_us = times_us // length_us * length_us
        order = np.lexsort((ids, ids & (SHARDS - 1), starts_us))
        ids, starts_us = ids[order], starts_us[order]
        is_first = are_first(ids, starts_us)
        return cls(ids[is_first], starts_us[is_first])

    def to_parameters(self) -> dict[str, object]:
        """Return the parameters of `REQUESTED_WINDOWS`, and the span of these windows."""
        origins = self.ids - SHARDS * np.arange(len(self.ids))  # the same in all of a range
        ranges = Runs.of_equal(origins, block_of(self.ids), self.starts_us)
        return {
            "first_ids": copy.to_array_text(self.ids[ranges.starts]),
            "last_ids": copy.to_array_text(self.ids[ranges.lasts]),
            "starts": copy.to_array_text(self.starts_us[ranges.starts]),
            "first": from_us(int(self.starts_us.min())),
            "end": from_us(int(self.starts_us.max()) + WINDOW_US),
        }


class Taken(NamedTuple):
    """What was removed of some windows: chunks, and samples of the head, which take precedence."""

    windows: Windows
    closed: Chunks
    head: HeadSamples


class MergeRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lock(self, shards: range) -> None:
        """Wait for the locks of the shards, and hold them until the transaction ends."""
        await self._connection.execute(_LOCK, {"first": shards[0], "last": shards[-1]})

    async def find_blocks(
        self,
        shards: range,
        after: tuple[int, int, datetime] | None,
        until: datetime,
        *,
        max_samples: int,
    ) -> Blocks:
        """Find the next windows of blocks in the head that begin before `until`.

        Stops once they may yield `max_samples`, but finds at least one if there is any.
        """
        shard, block, at = after or (shards[0] - 1, 0, until)
        parameters = {"shard": shard, "block": block, "at": at, "last": shards[-1], "until": until}
        bounds = {"max_rows": _MAX_ROWS, "max_samples": max_samples}
        found = (await self._connection.execute(_NEXT_BLOCKS, parameters | bounds)).one()
        return Blocks(*(one or () for one in found))

    async def take(self, blocks: Blocks, arriving: Sequence[HeadSamples] = ()) -> Taken:
        """Remove these windows from the head, and the chunks of their series in them.

        Their series are those in the head and those in `arriving`.
        """
        parameters = {
            "shards": blocks.shards,
            "blocks": blocks.numbers,
            "windows": blocks.starts_at,
        }
        rows = (await self._connection.execute(_TAKE_HEAD, parameters)).all()
        # Later generations come last, so that their samples take precedence.
        rows = sorted(rows, key=itemgetter(0))
        head = from_head([b"".join(row[field] for row in rows) for field in (1, 2, 3)])
        parts = [head, *arriving]
        windows = Windows.of(
            np.concatenate([part.series_ids for part in parts]),
            np.concatenate([part.times_us[part.runs.starts] for part in parts]),
            WINDOW_US,
        )
        await self._connection.execute(_ONLY_NESTED_LOOPS)
        answer = await self._connection.execute(_TAKE_CLOSED, windows.to_parameters())
        return Taken(windows, from_row(answer.one()), head)

    async def unmerged(self, until: datetime) -> list[int]:
        """Return the shards whose head has not been merged up to `until`."""
        return list((await self._connection.execute(_UNMERGED, {"until": until})).scalars())

    async def note_merged(self, shards: range, until: datetime) -> None:
        noted = {"first": shards[0], "last": shards[-1], "until": until}
        await self._connection.execute(_MERGED, noted)
