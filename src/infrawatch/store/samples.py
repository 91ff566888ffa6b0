"""The merged read: samples of some series in a span, whatever tier they lie in."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns, Int64s, is_among, latest_arrivals, series_bounds
from infrawatch.model.timerange import FAR_FUTURE_US, TimeRange, from_us
from infrawatch.store.chunks import ChunkRepository
from infrawatch.store.codec import Chunks
from infrawatch.store.journal import JOINED
from infrawatch.store.journal_rows import from_packed
from infrawatch.store.statements import Statement
from infrawatch.store.stored import Stored, check_total
from infrawatch.store.wanted import ARRAY_OF_WANTED, to_wanted

EVER = TimeRange(0, FAR_FUTURE_US)

_OFF_LOOP_SAMPLES = 200_000
"""Unpacking as many takes about ten milliseconds; more would keep other requests waiting."""

_BUFFERED_ROWS = 50
"""A row can hold a megabyte."""

_SPANNED = "AND j.max_at >= :start AND j.min_at < :end"
_JOURNAL_OF_SHARDS = Statement.of(JOINED.format(wanted="", condition=_SPANNED))

# For a few series of each shard PostgreSQL looks for them in the bytes of a row, leading zeros left
# out because they are everywhere, and sends rows that seem to hold one.
_JOURNAL_OF_FEW = Statement.of(
    JOINED.format(
        wanted=f"""
JOIN (
    SELECT shard, array_agg(ltrim(int8send(series_id), '\\x00')) AS ids {ARRAY_OF_WANTED}
    GROUP BY shard
) AS few USING (shard)
""",
        condition=f"""{_SPANNED} AND EXISTS (
            SELECT FROM unnest(few.ids) AS id WHERE position(id IN varbit_send(j.series_ids)) > 0
        )""",
    )
)

_FEW = 8
"""Series of a shard; with three times as many it costs the same to send everything. Or shards: of
so few, all that waits for compaction fits in memory."""


class SampleRepository:
    """Reads samples; the last arrival of each (series, time) is the one there is."""

    def __init__(self, connection: AsyncConnection, *, max_samples: int) -> None:
        self._connection = connection
        self._chunks = ChunkRepository(connection)
        self._max_samples = max_samples

    async def read(self, ids: Sequence[int] | Int64s, span: TimeRange) -> Columns:
        """Samples of these series in the span, sorted by (series, time), unique.

        Raises:
            QueryTooBroad: there are more than `max_samples`.
        """
        stored = await self.fetch(ids, span)
        if len(stored) > _OFF_LOOP_SAMPLES:
            return await asyncio.to_thread(stored.samples)
        return stored.samples()

    async def fetch(self, ids: Sequence[int] | Int64s, span: TimeRange) -> Stored:
        """The same, as it is stored; to unpack and sort it is for the caller.

        Raises:
            QueryTooBroad: there are more than `max_samples` for sure.
        """
        wanted = np.unique(np.asarray(ids, np.int64))
        closed: list[Chunks] = []
        recent: list[Columns] = []
        total = 0
        async for chunks, head in self._chunks.read(wanted, span):
            closed.append(chunks)
            recent.append(head)
            total += len(head) + int(chunks.counts[chunks.are_within(span)].sum())
            check_total(total, self._max_samples)
        async for part in self._journal(wanted, span):
            recent.append(part)
            total += len(part)
            check_total(total, self._max_samples)
        return Stored(span, closed, Columns.joined(recent), self._max_samples)

    async def find_last(self, ids: Sequence[int] | Int64s, span: TimeRange) -> Columns:
        """The sample with the latest time of each series that has one in the span, by series.

        Holds no more than these in memory, however many samples there are.
        """
        wanted = np.unique(np.asarray(ids, np.int64))
        times_us, values = np.full(len(wanted), -1), np.empty(len(wanted))
        async for part in self._newest(wanted, span):
            ordered = latest_arrivals(part)
            last = ordered.picked(series_bounds(ordered.series_ids)[1:] - 1)
            places = np.searchsorted(wanted, last.series_ids)
            is_newer = last.times_us >= times_us[places]  # at the same time, it arrived later
            times_us[places[is_newer]] = last.times_us[is_newer]
            values[places[is_newer]] = last.values[is_newer]
        return Columns(wanted, times_us, values).picked(times_us >= 0)

    async def find_ends(self, ids: Sequence[int]) -> Mapping[int, tuple[int, int]]:
        """The first and the last time, in µs, of each series that has samples."""
        wanted = np.unique(np.asarray(ids, np.int64))
        first = np.full(len(wanted), FAR_FUTURE_US)
        last = np.full(len(wanted), -1)
        series_ids, firsts, lasts = await self._chunks.find_ends(wanted)
        places = np.searchsorted(wanted, series_ids)
        first[places], last[places] = firsts, lasts
        async for part in self._journal(wanted, EVER):
            places = np.searchsorted(wanted, part.series_ids)
            np.minimum.at(first, places, part.times_us)
            np.maximum.at(last, places, part.times_us)
        found = zip(wanted.tolist(), first.tolist(), last.tolist(), strict=True)
        return {series_id: (start, end) for series_id, start, end in found if end >= 0}

    async def _newest(self, wanted: Int64s, span: TimeRange) -> AsyncGenerator[Columns, None]:
        """Samples in the span, of chunks and then of the journal: what comes later wins."""
        async for part in self._chunks.read_newest(wanted, span):
            yield part
        async for part in self._journal(wanted, span):
            yield part

    async def _journal(self, wanted: Int64s, span: TimeRange) -> AsyncGenerator[Columns, None]:
        """What is not compacted yet, in order of arrival within each series, some at a time."""
        shards = np.unique(wanted & (SHARDS - 1))
        spanned = {"start": from_us(span.start_us), "end": from_us(span.end_us)}
        asked: dict[str, object] = {"shards": shards.tolist(), **spanned}
        statement = _JOURNAL_OF_SHARDS
        if is_few := len(wanted) <= _FEW * len(shards):
            statement = _JOURNAL_OF_FEW
            asked |= to_wanted(wanted)
        of_shard = {int(shard): wanted[wanted & (SHARDS - 1) == shard] for shard in shards}
        if is_few or len(shards) <= _FEW:  # a stream asks PostgreSQL twice as often
            for shard, *sent in await statement.fetch(self._connection, asked):
                yield _picked(sent, of_shard[shard], span)
            return
        async for shard, *sent in statement.stream(self._connection, asked, at_once=_BUFFERED_ROWS):
            yield _picked(sent, of_shard[shard], span)


def _picked(sent: Sequence[bytes], wanted: Int64s, span: TimeRange) -> Columns:
    part = from_packed(sent)
    return part.picked(is_among(part.series_ids, wanted)).within(span)
