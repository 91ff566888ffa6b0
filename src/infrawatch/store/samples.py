"""The merged read: samples of some series in a span, from journal, head and chunks."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns, Int64s, is_among, latest_arrivals, series_bounds
from infrawatch.model.timerange import FAR_FUTURE_US, TimeRange, from_us
from infrawatch.store.chunks.codec import Chunks
from infrawatch.store.chunks.repository import ChunkRepository
from infrawatch.store.journal import JOINED
from infrawatch.store.journal_rows import from_packed
from infrawatch.store.packed_samples import PackedSamples, check_total
from infrawatch.store.selection.requested_ids import REQUESTED_SERIES, to_parameters
from infrawatch.store.statements import Statement

EVER = TimeRange(0, FAR_FUTURE_US)

_OFF_LOOP_SAMPLES = 200_000
"""Unpacking this many takes about ten milliseconds; more would block other requests."""

_BUFFERED_ROWS = 50
"""A row can hold a megabyte."""

_SPANNED = "AND j.max_at >= :start AND j.min_at < :end"
_JOURNAL_OF_SHARDS = Statement.of(JOINED.format(join="", condition=_SPANNED))

# For a few series per shard PostgreSQL searches the bytes of each row for their ids, without
# leading zeros because those occur everywhere, and sends the rows that seem to hold one.
_JOURNAL_OF_FEW = Statement.of(
    JOINED.format(
        join=f"""
JOIN (
    SELECT shard, array_agg(ltrim(int8send(series_id), '\\x00')) AS ids {REQUESTED_SERIES}
    GROUP BY shard
) AS few USING (shard)
""",
        condition=f"""{_SPANNED} AND EXISTS (
            SELECT FROM unnest(few.ids) AS id WHERE position(id IN varbit_send(j.series_ids)) > 0
        )""",
    )
)

_FEW = 8
"""Series per shard up to which rows are searched: with three times as many, sending all rows costs
the same. Also the number of shards whose uncompacted samples fit in memory."""


class SampleRepository:
    """Reads samples; of those with the same (series, time), the last arrival counts."""

    def __init__(self, connection: AsyncConnection, *, max_samples: int) -> None:
        self._connection = connection
        self._chunks = ChunkRepository(connection)
        self._max_samples = max_samples

    async def read(self, ids: Sequence[int] | Int64s, span: TimeRange) -> Columns:
        """Return the samples of these series in the span, sorted by (series, time), unique.

        Raises:
            QueryTooBroad: there are more than `max_samples` samples.
        """
        stored = await self.fetch(ids, span)
        if len(stored) > _OFF_LOOP_SAMPLES:
            return await asyncio.to_thread(stored.samples)
        return stored.samples()

    async def fetch(self, ids: Sequence[int] | Int64s, span: TimeRange) -> PackedSamples:
        """Return the same samples as stored; the caller unpacks and sorts them.

        Raises:
            QueryTooBroad: there are more than `max_samples` samples, even without unpacking.
        """
        unique_ids = np.unique(np.asarray(ids, np.int64))
        closed: list[Chunks] = []
        recent: list[Columns] = []
        total = 0
        async for chunks, head in self._chunks.read(unique_ids, span):
            closed.append(chunks)
            recent.append(head)
            total += len(head) + int(chunks.counts[chunks.are_within(span)].sum())
            check_total(total, self._max_samples)
        async for part in self._journal(unique_ids, span):
            recent.append(part)
            total += len(part)
            check_total(total, self._max_samples)
        return PackedSamples(span, closed, Columns.joined(recent), self._max_samples)

    async def find_last(self, ids: Sequence[int] | Int64s, span: TimeRange) -> Columns:
        """Return the latest sample in the span of each series that has one, by series.

        Memory use does not grow with the number of samples in the span.
        """
        unique_ids = np.unique(np.asarray(ids, np.int64))
        times_us, values = np.full(len(unique_ids), -1), np.empty(len(unique_ids))
        async for part in self._newest(unique_ids, span):
            ordered = latest_arrivals(part)
            last = ordered.picked(series_bounds(ordered.series_ids)[1:] - 1)
            places = np.searchsorted(unique_ids, last.series_ids)
            is_newer = last.times_us >= times_us[places]  # of equal times, later parts arrived last
            times_us[places[is_newer]] = last.times_us[is_newer]
            values[places[is_newer]] = last.values[is_newer]
        return Columns(unique_ids, times_us, values).picked(times_us >= 0)

    async def find_ends(self, ids: Sequence[int]) -> Mapping[int, tuple[int, int]]:
        """Return the first and last time, in µs, of each series that has samples."""
        unique_ids = np.unique(np.asarray(ids, np.int64))
        first = np.full(len(unique_ids), FAR_FUTURE_US)
        last = np.full(len(unique_ids), -1)
        series_ids, firsts, lasts = await self._chunks.find_ends(unique_ids)
        places = np.searchsorted(unique_ids, series_ids)
        first[places], last[places] = firsts, lasts
        async for part in self._journal(unique_ids, EVER):
            places = np.searchsorted(unique_ids, part.series_ids)
            np.minimum.at(first, places, part.times_us)
            np.maximum.at(last, places, part.times_us)
        found = zip(unique_ids.tolist(), first.tolist(), last.tolist(), strict=True)
        return {series_id: (start, end) for series_id, start, end in found if end >= 0}

    async def _newest(self, ids: Int64s, span: TimeRange) -> AsyncGenerator[Columns, None]:
        """Yield samples in the span, from chunks, then the journal: later ones take precedence."""
        async for part in self._chunks.read_newest(ids, span):
            yield part
        async for part in self._journal(ids, span):
            yield part

    async def _journal(self, ids: Int64s, span: TimeRange) -> AsyncGenerator[Columns, None]:
        """Yield uncompacted samples in parts, in order of arrival within each series."""
        shards = np.unique(ids & (SHARDS - 1))
        spanned = {"start": from_us(span.start_us), "end": from_us(span.end_us)}
        parameters: dict[str, object] = {"shards": shards.tolist(), **spanned}
        statement = _JOURNAL_OF_SHARDS
        if is_few := len(ids) <= _FEW * len(shards):
            statement = _JOURNAL_OF_FEW
            parameters |= to_parameters(ids)
        of_shard = {int(shard): ids[ids & (SHARDS - 1) == shard] for shard in shards}
        if is_few or len(shards) <= _FEW:  # a stream takes twice as many round trips
            for shard, *sent in await statement.fetch(self._connection, parameters):
                yield _picked(sent, of_shard[shard], span)
            return
        async for shard, *sent in statement.stream(
            self._connection, parameters, at_once=_BUFFERED_ROWS
        ):
            yield _picked(sent, of_shard[shard], span)


def _picked(sent: Sequence[bytes], ids: Int64s, span: TimeRange) -> Columns:
    part = from_packed(sent)
    return part.picked(is_among(part.series_ids, ids)).within(span)
