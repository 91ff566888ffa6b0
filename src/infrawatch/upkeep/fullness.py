"""Which windows a pass closes at once: those of which it brings a good part by itself."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from infrawatch.model.labels import SHARD_BITS, SHARDS
from infrawatch.model.samples import Columns, Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store.buckets import FIVE_MINUTES, Buckets
from infrawatch.store.codec import WINDOW_US
from infrawatch.store.head_rows import HeadSamples
from infrawatch.store.merging import Blocks
from infrawatch.store.ragged import Runs, are_first
from infrawatch.store.wanted import block_of

FULL_BUCKETS = 6
"""Of five minutes, for each series: a quarter of a window. A pass finds two or three of what comes
as it is measured; more has waited, or is history. So a window is written four times at the most,
and mostly once, where its samples would have been written to the head, too."""

MOST_WINDOWS = 10_000
"""Of series, that are closed in one go: each may bring some hundred samples that were closed."""

_WINDOW_BITS = 32


class Full(NamedTuple):
    """Windows of blocks, and what arrived of them, in runs of one series and window."""

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
    """Samples of windows that are full, some windows at a time, and all others."""

    full: list[Full]
    others: Columns


class _Windows(NamedTuple):
    """Samples in runs of one series and window; of each in how many buckets it has any.

    `group_of` numbers the window of its block, and of these groups there are a first run each, and
    how many there are.
    """

    runs: Runs
    buckets: Int64s
    group_of: Int64s
    firsts: Int64s
    sizes: Int64s


def split(samples: Columns, least_buckets: int) -> Split:
    """Divide samples that are sorted by (shard, series, time) and unique.

    Full are windows of blocks in which a series that is there has so many buckets on average.
    """
    # Samples in so many buckets have all but the first and the last of these between them.
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
    """These groups, some at a time."""
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
