"""Rollups: written in the transaction that merges windows, so late samples repair their buckets."""

import asyncio

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.samples import Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store.chunks.codec import WINDOW_US
from infrawatch.store.chunks.merging import Windows
from infrawatch.store.partitions import ROLLUPS, PartitionRepository
from infrawatch.store.rollups.buckets import RESOLUTIONS, Buckets, Resolution
from infrawatch.store.rollups.repository import RollupRepository


async def roll_up(
    connection: AsyncConnection,
    finest: Buckets,
    windows: Windows,
    had_samples: Windows,
) -> None:
    """Rewrite the rollups of some windows from the finest buckets of all their samples.

    The buckets come series by series, in order of time. `had_samples` identifies, by any time in
    them, those of the windows that had samples before. In the others a rollup may have outlived its
    samples: it holds more than the late samples do, and is kept unchanged.
    """
    days = {from_us(start).date() for start in np.unique(windows.starts_us).tolist()}
    for resolution in reversed(RESOLUTIONS):
        repository = RollupRepository(connection, resolution)
        before = await repository.take(windows)
        after = await asyncio.to_thread(_rewritten, before, finest, had_samples, resolution)
        await PartitionRepository(connection).make(ROLLUPS[resolution], days)
        await repository.append(after)


def _rewritten(
    before: Buckets, finest: Buckets, had_samples: Windows, resolution: Resolution
) -> Buckets:
    """Return the new buckets of all taken rows; rows also hold other series and windows."""
    new = finest if resolution == RESOLUTIONS[-1] else finest.coarser(resolution.bucket_us)
    if len(before.series_ids) == 0:
        return new
    kept = _without(before, had_samples)
    return Buckets.sorted([kept, _without(new, Windows(kept.series_ids, kept.times_us))])


def _without(buckets: Buckets, windows: Windows) -> Buckets:
    """Leave out the buckets of these windows, each identified by any time in it."""
    runs = buckets.runs_within(WINDOW_US)
    ids, times_us = buckets.series_ids[runs.starts], buckets.times_us[runs.starts]
    all_ids = np.unique(np.concatenate((ids, windows.ids)))
    is_left = np.isin(_keys(ids, times_us, all_ids), _keys(*windows, all_ids), invert=True)
    return buckets if is_left.all() else buckets.picked(runs.spread(is_left))


def _keys(series_ids: Int64s, times_us: Int64s, all_ids: Int64s) -> Int64s:
    """Return a number for the window of each (series, time); `all_ids` are sorted."""
    return np.searchsorted(all_ids, series_ids) << 32 | times_us // WINDOW_US
