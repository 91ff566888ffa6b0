"""The tables of rollups: written when windows are merged, read instead of many samples."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Int64s, is_among
from infrawatch.model.timerange import TimeRange, from_us, to_us
from infrawatch.store.chunks.merging import REQUESTED_WINDOWS, Windows
from infrawatch.store.columns import copy
from infrawatch.store.journal import UNCOMPACTED
from infrawatch.store.rollups.bucket_packing import pack_buckets, unpack_buckets
from infrawatch.store.rollups.buckets import Buckets, Resolution
from infrawatch.store.rollups.rows import ROLLUP_COLUMNS, ROLLUP_FIELDS, from_row, to_copy
from infrawatch.store.selection.requested_ids import BLOCK_BITS, REQUESTED_ROWS, to_parameters

_SERIES_ROWS_AT_ONCE = 30_000
"""Series times rows read per statement: 20 MB, and at most 700,000 buckets."""

# One index descent per range of series and row, in the partitions of these months only.
_TAKE = f"""
WITH taken AS (
    DELETE FROM {{table}} r USING {REQUESTED_WINDOWS}
    WHERE r.shard = requested.shard AND r.block = requested.first_id >> {BLOCK_BITS}
        AND r.start_at = requested.at
        AND r.first_id <= requested.last_id AND r.last_id >= requested.first_id
        AND r.start_at >= :first AND r.start_at < :end
    RETURNING r.*
)
SELECT {ROLLUP_FIELDS} FROM taken AS k
"""

_READ = f"""
SELECT {ROLLUP_FIELDS} FROM (
    SELECT k.* {REQUESTED_ROWS}
    WHERE k.start_at > CAST(:start AS timestamptz) - interval '{{row_s}} seconds'
        AND k.start_at < :end
) AS k
"""

# Windows not merged yet, of any series in the rows: rows of the journal do not tell them apart.
_OPEN = text(f"""
SELECT k.window_at AS at {REQUESTED_ROWS.format(table="chunks_head")}
WHERE k.window_at > CAST(:start AS timestamptz) - interval '2 hours' AND k.window_at < :end
UNION
SELECT generate_series(
    date_bin(interval '2 hours', greatest(j.min_at, :start), timestamptz '1970-01-01 00:00Z'),
    least(j.max_at, :end), interval '2 hours')
{UNCOMPACTED}
WHERE h.shard = ANY(CAST(:shards AS smallint[])) AND j.max_at >= :start AND j.min_at < :end
ORDER BY at
""")


class RollupRepository:
    """Reads and writes the table of one resolution."""

    def __init__(self, connection: AsyncConnection, resolution: Resolution) -> None:
        self._connection = connection
        self._resolution = resolution

    async def take(self, windows: Windows) -> Buckets:
        """Remove the rows that hold these windows; return all their buckets, other series' too."""
        rows = Windows.of(*windows, self._resolution.row_us)
        answer = await self._connection.execute(self._statement(_TAKE), rows.to_parameters())
        packed = from_row(answer.one())
        return await asyncio.to_thread(unpack_buckets, packed, self._resolution.bucket_us)

    async def append(self, buckets: Buckets) -> None:
        """Add buckets, series by series in order of time; their months' partitions must exist."""
        rows = await asyncio.to_thread(_packed, buckets, self._resolution.bucket_us)
        await copy.copy_binary(self._connection, self._resolution.table, ROLLUP_COLUMNS, [rows])

    async def read(self, ids: Int64s, span: TimeRange) -> AsyncGenerator[Buckets, None]:
        """Yield the buckets of merged windows that begin in the span, part by part."""
        rows = (span.end_us - span.start_us) // self._resolution.row_us + 2
        size = max(_SERIES_ROWS_AT_ONCE // rows, 1)
        for start in range(0, len(ids), size):
            some = ids[start : start + size]
            answer = await self._connection.execute(self._statement(_READ), _parameters(some, span))
            packed = from_row(answer.one())
            found = packed.picked(np.flatnonzero(is_among(packed.series_ids, some)))
            part = unpack_buckets(found, self._resolution.bucket_us)
            yield part.picked((part.times_us >= span.start_us) & (part.times_us < span.end_us))

    async def find_open_windows(self, ids: Int64s, span: TimeRange) -> Int64s:
        """Return the starts of windows that overlap the span and have samples not merged yet."""
        found = (await self._connection.execute(_OPEN, _parameters(ids, span))).scalars()
        return np.array([to_us(one) for one in found], np.int64)

    def _statement(self, pattern: str) -> TextClause:
        row_s = self._resolution.row_us // 1_000_000
        return text(pattern.format(table=self._resolution.table, row_s=row_s))


def _packed(buckets: Buckets, bucket_us: int) -> bytes:
    return to_copy(pack_buckets(buckets, bucket_us))


def _parameters(ids: Int64s, span: TimeRange) -> dict[str, object]:
    return {
        "shards": np.unique(ids & (SHARDS - 1)).tolist(),
        **to_parameters(ids),
        "start": from_us(span.start_us),
        "end": from_us(span.end_us),
    }
