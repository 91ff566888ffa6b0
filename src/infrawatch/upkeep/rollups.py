"""Rollups: written in the transaction that merges windows, so late samples repair their buckets."""

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store.chunks.codec import WINDOW_US
from infrawatch.store.chunks.merging import Windows
from infrawatch.store.partitions import ROLLUPS, PartitionRepository
from infrawatch.store.rollups.buckets import RESOLUTIONS, Buckets
from infrawatch.store.rollups.repository import RollupRepository


async def roll_up(
    connection: AsyncConnection,
    after: Buckets,
    windows: Windows,
    had_samples: Windows,
) -> None:
    """Rewrite the buckets of some windows from `after`, the finest buckets of all their samples.

    `had_samples` identifies, by any time in them, the windows that had samples before. In the other
    windows a rollup may have outlived its samples: it holds more than the late samples do, and is
    kept unchanged.
    """
    days = {from_us(start).date() for start in np.unique(windows.starts_us).tolist()}
    for resolution in reversed(RESOLUTIONS):
        repository = RollupRepository(connection, resolution)
        before = await repository.take(windows)
        after = after.coarser(resolution.bucket_us)
        ids = np.union1d(windows.ids, before.series_ids)  # rows also hold neighbouring series
        written = _keys(windows.ids, windows.starts_us, ids)
        repairable = _keys(*had_samples, ids)
        there = _keys(before.series_ids, before.times_us, ids)
        outlived = np.setdiff1d(np.intersect1d(there, written), repairable)
        kept = before.picked(~np.isin(there, written) | np.isin(there, outlived))
        new = after.picked(~np.isin(_keys(after.series_ids, after.times_us, ids), outlived))
        await PartitionRepository(connection).make(ROLLUPS[resolution], days)
        await repository.append(Buckets.sorted([kept, new]))


def _keys(series_ids: Int64s, times_us: Int64s, ids: Int64s) -> Int64s:
    """Return a number for the window of each (series, time); `ids` are all series ids, sorted."""
    return np.searchsorted(ids, series_ids) << 32 | times_us // WINDOW_US
