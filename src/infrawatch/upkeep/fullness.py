"""Which windows a pass closes at once: those of which it holds a good part."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from infrawatch.model.labels import SHARD_BITS, SHARDS
from infrawatch.model.samples import Columns, Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store.chunks.codec import WINDOW_US
from infrawatch.store.chunks.head_rows import HeadSamples
from infrawatch.store.chunks.merging import Blocks
from infrawatch.store.columns.ragged import Runs, are_first
from infrawatch.store.rollups.buckets import FIVE_MINUTES, Buckets
from infrawatch.store.selection.requested_ids import block_of

FULL_BUCKETS = 6
"""Five-minute buckets per series from which a window counts as full: a quarter of a window.

A pass finds two or three of them in samples sent as they are measured; more means that the samples
were delayed or are history. So a window is written at most four times, usually once, and its
samples are not written to the head first.
"""

MOST_WINDOWS = 10_000
"""Windows of series closed in one call; each may add some hundred samples of existing chunks."""

_WINDOW_BITS = 32


class Full(NamedTuple):
    """Windows of blocks, and their arriving samples in runs of one series and window."""

    blocks: Blocks
    samples: Columns
    runs: Runs

    def to_runs(self) -> HeadSamples:
        return HeadSamples(
            self.samples.series_ids[self.runs.starts],
            self.runs.counts,
            self.samples.times_us,
            self.samples.values,
        )


class Split(NamedTuple):
    """Samples of full windows, several windows per item, and all other samples."""

    full: list[Full]
    others: Columns


class _Windows(NamedTuple):
    """Samples in runs of one series and window, and the number of non-empty buckets of each run.

    `group_of` gives each run the number of its group, a window of a block; `firsts` and `sizes` are
    the first run and the number of runs of each group.
    """

    runs: Runs
    buckets: Int64s
    group_of: Int64s
    firsts: Int64s
    sizes: Int64s


def split(samples: Columns, least_buckets: int) -> Split:
    """Divide samples that are unique and sorted by (shard, series, time).

    A window of a block is full if its series have, on average, samples in at least `least_buckets`
    buckets.
    """
    # Samples in n buckets span at least the n - 2 buckets between the first and the last.
    if np.ptp(samples.times_us) <= (least_buckets - 2) * FIVE_MINUTES.bucket_us:
        return Split([], samples)
    windows = _windows(samples)
    runs, buckets, group_of, _, sizes = windows
    is_full = np.bincount(group_of, buckets) >= least_buckets * sizes
    if not is_full.any():
        return Split([], samples)
    is_other = runs.spread(~is_full[group_of])
    return Split(
        list(_full(samples, windows, np.flatnonzero(is_full))),
        samples.picked(is_other) if is_other.any() else Columns.empty(),
    )


def _windows(samples: Columns) -> _Windows:
    buckets = Buckets.runs_of(samples, FIVE_MINUTES.bucket_us)
    ids, windows = samples.series_ids[buckets.starts], samples.times_us[buckets.starts] // WINDOW_US
    parts = Runs.beginning(are_first(ids, windows))
    starts = buckets.starts[parts.starts]
    ids, windows = ids[parts.starts], windows[parts.starts]
    blocks = block_of(ids) << SHARD_BITS | ids & (SHARDS - 1)
    changes = np.append(0, np.cumsum(np.diff(blocks) != 0))
    _, firsts, group_of, sizes = np.unique(
        changes << _WINDOW_BITS | windows,
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    runs = Runs(starts, np.diff(starts, append=len(samples)))
    return _Windows(runs, parts.counts, group_of, firsts, sizes)


def _full(samples: Columns, windows: _Windows, groups: Int64s) -> Iterator[Full]:
    """Yield the given groups, several at a time."""
    runs, _, group_of, firsts, sizes = windows
    ends = np.cumsum(sizes[groups])
    for some in np.split(groups, np.flatnonzero(np.diff(ends // MOST_WINDOWS)) + 1):
        heads = samples.picked(runs.starts[firsts[some]])
        blocks = Blocks(
            (heads.series_ids & (SHARDS - 1)).tolist(),
            block_of(heads.series_ids).tolist(),
            [from_us(one) for one in (heads.times_us // WINDOW_US * WINDOW_US).tolist()],
        )
        which = np.isin(group_of, some)
        if which.all():
            yield Full(blocks, samples, runs)
        else:
            part = samples.picked(runs.spread(which))
            yield Full(blocks, part, Runs.of(runs.counts[which]))
