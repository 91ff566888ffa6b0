"""Buckets of a span: from rollups, and from samples that are not rolled up yet."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import UTC, datetime, time

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.errors import QueryTooBroad
from infrawatch.model.samples import Int64s
from infrawatch.model.timerange import TimeRange, to_us
from infrawatch.store.chunks.codec import WINDOW_US
from infrawatch.store.partitions import CHUNKS, ROLLUPS, PartitionedTable, PartitionRepository
from infrawatch.store.rollups.buckets import RESOLUTIONS, Buckets, Resolution
from infrawatch.store.rollups.repository import RollupRepository
from infrawatch.store.samples import SampleRepository


class BucketRepository:
    """Reads buckets as if computed from all samples, including those already dropped."""

    def __init__(self, connection: AsyncConnection, *, max_samples: int) -> None:
        self._connection = connection
        self._samples = SampleRepository(connection, max_samples=max_samples)
        self._max_buckets = max_samples

    async def read(self, ids: Sequence[int], span: TimeRange, resolution: Resolution) -> Buckets:
        """Return buckets of these series, by (series, time); the span must begin with a bucket.

        If the span ends within a bucket, that bucket covers only the samples in the span.

        Raises:
            QueryTooBroad: there are more than `max_samples` buckets or samples.
        """
        unique_ids = np.unique(np.asarray(ids, np.int64))
        rollups = RollupRepository(self._connection, resolution)
        windows = await rollups.find_open_windows(unique_ids, span)
        if span.end_us % resolution.bucket_us:
            windows = np.union1d(windows, [span.end_us // WINDOW_US * WINDOW_US])
        parts = [part async for part in self._closed(rollups, unique_ids, span, windows)]
        for piece in _pieces(windows, span):
            samples = await self._samples.read(unique_ids, piece)
            parts.append(Buckets.of(samples, resolution.bucket_us))
        return Buckets.sorted(parts)

    async def read_outlived(
        self, ids: Sequence[int], span: TimeRange, longest_us: int
    ) -> Buckets | None:
        """Return the span's buckets before the kept samples, and each kept sample as a bucket.

        Uses the finest resolution that reaches back far enough, else the coarsest, of those not
        longer than `longest_us`. Returns None if there is no such resolution, or if the span does
        not reach back beyond the kept samples.

        Raises:
            QueryTooBroad: there are more than `max_samples` buckets or samples.
        """
        fitting = [one for one in RESOLUTIONS if one.bucket_us <= longest_us]
        kept_from_us = await self._kept_from(CHUNKS) if fitting else 0
        if span.start_us >= kept_from_us:
            return None
        finest = fitting[-1]
        is_kept = span.start_us >= await self._kept_from(ROLLUPS[finest])
        rollups = RollupRepository(self._connection, finest if is_kept else fitting[0])
        unique_ids = np.unique(np.asarray(ids, np.int64))
        outlived = TimeRange(span.start_us, min(kept_from_us, span.end_us))
        windows = await rollups.find_open_windows(unique_ids, outlived)
        parts = [part async for part in self._closed(rollups, unique_ids, outlived, windows)]
        for piece in (*_pieces(windows, outlived), TimeRange(outlived.end_us, span.end_us)):
            samples = await self._samples.read(unique_ids, piece)
            parts.append(Buckets.of(samples, 1))
        return Buckets.sorted(parts)

    async def _closed(
        self, rollups: RollupRepository, unique_ids: Int64s, span: TimeRange, windows: Int64s
    ) -> AsyncGenerator[Buckets, None]:
        """Yield the rollups of the span, except those of open windows."""
        total = 0
        async for part in rollups.read(unique_ids, span):
            is_open = np.isin(part.times_us // WINDOW_US * WINDOW_US, windows)
            closed = part.picked(~is_open)
            total += len(closed.times_us)
            if total > self._max_buckets:
                raise QueryTooBroad(
                    f"more than {self._max_buckets} rollups would have to be read: ask for a "
                    "shorter span or fewer series, or raise INFRAWATCH_READ_MAX_SAMPLES"
                )
            yield closed

    async def _kept_from(self, table: PartitionedTable) -> int:
        """Return the start of the first partition, in µs; 0 if none exists, as none was dropped."""
        starts = await PartitionRepository(self._connection).find(table)
        return to_us(datetime.combine(min(starts), time(), UTC)) if starts else 0


def _pieces(windows: Int64s, span: TimeRange) -> Iterator[TimeRange]:
    for start_us in windows.tolist():
        piece = TimeRange(max(start_us, span.start_us), min(start_us + WINDOW_US, span.end_us))
        if piece.start_us < piece.end_us:
            yield piece
