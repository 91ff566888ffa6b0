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
from infrawatch.store.rollups.buckets import FIVE_MINUTES
from infrawatch.store.selection.requested_ids import block_of
from infrawatch.upkeep.cut_samples import CutSamples

FULL_BUCKETS = 6
"""Five-minute buckets per series from which a window counts as full: a quarter of a window.

A pass finds two or three of them in samples sent as they are measured; more means that the samples
were delayed or are history. So a window is written at most four times, usually once, and its
samples are not written to the head first.
"""

MAX_WINDOWS = 10_000
"""Windows of series closed in one call; each may add some hundred samples of existing chunks."""

_WINDOW_BITS = 32


class FullWindows(NamedTuple):
    """Windows of blocks, and their arriving samples."""

    blocks: Blocks
    cut: CutSamples

    def to_runs(self) -> HeadSamples:
        """Return the samples in runs of one series and window."""
        samples, _, windows, _ = self.cut
        return HeadSamples(
            samples.series_ids[windows.starts], windows.counts, samples.times_us, samples.values
        )


class Split(NamedTuple):
    """Samples of full windows, several windows per item, and all other samples."""

    full: list[FullWindows]
    others: Columns


class _Groups(NamedTuple):
    """Windows of series by group, a window of a block.

    `group_of` gives each window of a series the number of its group; `firsts` and `sizes` are the
    first of these windows and their number in each group.
    """

    group_of: Int64s
    firsts: Int64s
    sizes: Int64s


def split(samples: Columns, min_buckets: int) -> Split:
    """Divide samples that are unique and sorted by (shard, series, time).

    A window of a block is full if its series have, on average, samples in at least `min_buckets`
    buckets.
    """
    # Samples in n buckets span at least the n - 2 buckets between the first and the last.
    if np.ptp(samples.times_us) <= (min_buckets - 2) * FIVE_MINUTES.bucket_us:
        return Split([], samples)
    cut = CutSamples.of(samples)
    groups = _groups(cut)
    is_full = np.bincount(groups.group_of, cut.sizes) >= min_buckets * groups.sizes
    if not is_full.any():
        return Split([], samples)
    is_other = cut.windows.spread(~is_full[groups.group_of])
    return Split(
        list(_full(cut, groups, np.flatnonzero(is_full))),
        samples.picked(is_other) if is_other.any() else Columns.empty(),
    )


def _groups(cut: CutSamples) -> _Groups:
    starts = cut.windows.starts
    ids, windows = cut.samples.series_ids[starts], cut.samples.times_us[starts] // WINDOW_US
    blocks = block_of(ids) << SHARD_BITS | ids & (SHARDS - 1)
    changes = np.append(0, np.cumsum(np.diff(blocks) != 0))
    _, firsts, group_of, sizes = np.unique(
        changes << _WINDOW_BITS | windows,
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    return _Groups(group_of, firsts, sizes)


def _full(cut: CutSamples, groups: _Groups, full: Int64s) -> Iterator[FullWindows]:
    """Yield the groups of these numbers, several at a time."""
    group_of, firsts, sizes = groups
    ends = np.cumsum(sizes[full])
    for some in np.split(full, np.flatnonzero(np.diff(ends // MAX_WINDOWS)) + 1):
        heads = cut.samples.picked(cut.windows.starts[firsts[some]])
        blocks = Blocks(
            (heads.series_ids & (SHARDS - 1)).tolist(),
            block_of(heads.series_ids).tolist(),
            [from_us(one) for one in (heads.times_us // WINDOW_US * WINDOW_US).tolist()],
        )
        yield FullWindows(blocks, cut.picked(np.isin(group_of, some)))
