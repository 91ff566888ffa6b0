"""The head, which holds samples of open windows, and the chunks of closed ones."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import Columns, Int64s, is_among
from infrawatch.model.timerange import TimeRange, from_us
from infrawatch.store.chunks import head_rows
from infrawatch.store.chunks.codec import MAX_SAMPLES, WINDOW_US, Chunks, blocks, decode
from infrawatch.store.chunks.head_rows import HEAD_COLUMNS, HEAD_FIELDS, HEAD_OF_REQUESTED
from infrawatch.store.chunks.rows import (
    CHUNK_COLUMNS,
    CHUNK_FIELDS,
    CHUNK_FIELDS_SENT,
    from_row,
    to_copy,
)
from infrawatch.store.columns import copy
from infrawatch.store.connections import to_driver
from infrawatch.store.selection.requested_ids import REQUESTED_ROWS, REQUESTED_SERIES, to_parameters
from infrawatch.store.statements import Statement

_CHUNKS_AT_ONCE = 20_000
"""The chunks a statement should return: about 20 MB, and at most 10 million samples."""

_GROWTH = 4
"""The most by which the number of series per statement grows: spans may be sparse, series differ.
"""

_MAX_WINDOWS = 400
"""About a month: spans may extend beyond the data, and 50 series are enough for a first statement.
"""

# One index descent per series and daily partition that overlaps the span; a chunk begins at most
# one window before its last sample.
_CLOSED = f"""
SELECT k.* {REQUESTED_SERIES} JOIN chunks k USING (shard, series_id)
WHERE k.start_at > CAST(:start AS timestamptz) - interval '2 hours' AND k.start_at < :end
    AND k.end_at >= :start
"""

# The newest chunk of each series: partitions are tried from the latest day back.
_NEWEST = f"""
SELECT k.* {REQUESTED_SERIES}
CROSS JOIN LATERAL (
    SELECT * FROM chunks c
    WHERE c.shard = requested.shard AND c.series_id = requested.series_id
        AND c.start_at > CAST(:start AS timestamptz) - interval '2 hours' AND c.start_at < :end
    ORDER BY c.start_at DESC LIMIT 1
) AS k
"""

# Rows of the head hold several series of a block; later generations come last, so that they take
# precedence. A single statement, since another round trip costs as much as half a day of a series.
_WITH_HEAD = f"""
SELECT closed.*, head.*
FROM (SELECT {CHUNK_FIELDS} FROM ({{closed}}) AS k) AS closed
CROSS JOIN (
    SELECT {HEAD_FIELDS} FROM (
        {HEAD_OF_REQUESTED}
        WHERE k.window_at > CAST(:start AS timestamptz) - interval '2 hours'
            AND k.window_at < :end AND k.start_at < :end AND k.end_at >= :start
        ORDER BY k.generation
    ) AS k
) AS head
"""
_READ = Statement.of(_WITH_HEAD.format(closed=_CLOSED))
_READ_NEWEST = Statement.of(_WITH_HEAD.format(closed=_NEWEST))

_ENDS = Statement.of(f"""
SELECT substr(array_send(array_agg(series_id)), 21), substr(array_send(array_agg(first)), 21),
    substr(array_send(array_agg(last)), 21)
FROM (
    SELECT series_id, min(start_at) AS first, max(end_at) AS last
    FROM (
        SELECT series_id, k.start_at, k.end_at {REQUESTED_SERIES}
        JOIN chunks k USING (shard, series_id)
        UNION ALL
        SELECT r.series_id, r.start_at, r.end_at {REQUESTED_ROWS.format(table="chunks_head")}
        CROSS JOIN LATERAL head_runs(k.runs, k.times) AS r
        WHERE r.series_id = ANY (requested.ids)
    ) AS every
    GROUP BY series_id
) AS ends
""")


class ChunkRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def read(
        self, ids: Int64s, span: TimeRange
    ) -> AsyncGenerator[tuple[Chunks, Columns], None]:
        """Yield chunks that overlap the span, and samples of the head in it, by generation.

        Each item covers some of the series, in order of id. The head's samples arrived later.
        """
        start, size = 0, _first_size(span)
        while start < len(ids):
            part = ids[start : start + size]
            closed, head = await self._select(_READ, part, span)
            yield closed, head
            found = len(closed) + len(head) // MAX_SAMPLES
            start += size
            size = min(_GROWTH * size, _CHUNKS_AT_ONCE * len(part) // max(found, 1)) or 1

    async def read_newest(self, ids: Int64s, span: TimeRange) -> AsyncGenerator[Columns, None]:
        """Yield the samples in the span of each series' newest chunk, and of the whole head."""
        size = _CHUNKS_AT_ONCE // 2
        for start in range(0, len(ids), size):
            closed, head = await self._select(_READ_NEWEST, ids[start : start + size], span)
            for block in blocks(closed):
                yield decode(block, span)
            yield head

    async def find_ends(self, ids: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """Return the ids of series in chunks or head, and their first and last times in µs."""
        [sent] = await _ENDS.fetch(self._connection, to_parameters(ids))
        series_ids, first, last = (copy.from_joined_elements(one or b"") for one in sent)
        return series_ids, first + copy.PG_EPOCH_US, last + copy.PG_EPOCH_US

    async def append_head(self, rows: Sequence[copy.Piece]) -> None:
        """Add rows made by a compaction; each generation is written once."""
        await copy.copy_binary(self._connection, "chunks_head", HEAD_COLUMNS, rows)

    async def append(self, parts: Sequence[Chunks]) -> None:
        """Add chunks of closed windows; their days' partitions must exist."""
        rows = await asyncio.to_thread(lambda: [to_copy(chunks) for chunks in parts])
        await copy.copy_binary(self._connection, "chunks", CHUNK_COLUMNS, rows)

    async def vacuum_head(self) -> None:
        """Reclaim the space of merged windows in the head, outside a transaction."""
        await to_driver(self._connection).execute("VACUUM chunks_head")

    async def _select(
        self, statement: Statement, ids: Int64s, span: TimeRange
    ) -> tuple[Chunks, Columns]:
        """Return the chunks, and the samples of the head in the span."""
        spanned = {"start": from_us(span.start_us), "end": from_us(span.end_us)}
        [fields] = await statement.fetch(self._connection, {**to_parameters(ids), **spanned})
        closed, head = from_row(fields[:CHUNK_FIELDS_SENT]), fields[CHUNK_FIELDS_SENT:]
        if head[0] is None:
            return closed, Columns.empty()
        samples = head_rows.from_row(head)
        return closed, samples.picked(is_among(samples.series_ids, ids)).within(span)


def _first_size(span: TimeRange) -> int:
    """Return the number of series to begin with; later sizes follow the number of chunks found."""
    windows = min((span.end_us - span.start_us) // WINDOW_US + 2, _MAX_WINDOWS)
    return int(_CHUNKS_AT_ONCE // windows)
