"""Which windows a pass closes at once: those of which it brings a good part by itself."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Columns, Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store.buckets import FIVE_MINUTES
from infrawatch.store.codec import WINDOW_US
from infrawatch.store.head_rows import HeadSamples
from infrawatch.store.merging import Blocks
from infrawatch.store.ragged import Runs
from infrawatch.store.wanted import block_of

FULL_BUCKETS = 6
"""Of five minutes, for each series: a quarter of a window. A pass finds two or three of what comes
as it is measured; more has waited, or is history. So a window is written four times at the most,
and mostly once, where its samples would have been written to the head, too."""

MOST_WINDOWS = 10_000
"""Of series, that are closed in one go: each may bring some hundred samples that were closed."""

_WINDOW_BITS = 32


class Full(NamedTuple):
    """Windows of blocks, and what arrived of them: a run for each series and window."""

    blocks: Blocks
    samples: HeadSamples


class Split(NamedTuple):
    """Samples of windows that are full, and all others."""

    full: list[Full]
    others: Columns


class _Pieces(NamedTuple):
    """Samples in runs of one series and window; `group_of` numbers the window of a block of each.

    Of each group: its first run, and how many there are.
    """

    samples: Columns
    runs: Runs
    group_of: Int64s
    firsts: Int64s
    sizes: Int64s


def split(samples: Columns) -> Split:
    """Divide samples that are sorted by (shard, series, time) and unique."""
    pieces = _pieces(samples)
    is_first = np.ones(len(samples), np.int64)
    is_first[1:] = np.diff(samples.times_us // FIVE_MINUTES.bucket_us) != 0
    is_first[pieces.runs.starts] = 1
    buckets = np.add.reduceat(is_first, pieces.runs.starts)
    is_full = np.bincount(pieces.group_of, buckets) >= FULL_BUCKETS * pieces.sizes
    is_other = ~pieces.runs.spread(is_full[pieces.group_of])
    others = samples if is_other.all() else samples.picked(is_other)
    return Split(list(_full(pieces, np.flatnonzero(is_full))), others)


def joined(parts: Sequence[Full]) -> Iterator[Full]:
    """The same in fewer parts, as many together as are closed in one go."""
    totals = np.cumsum([len(part.samples.counts) for part in parts])
    for _, some in groupby(zip(totals // MOST_WINDOWS, parts, strict=True), itemgetter(0)):
        blocks, samples = zip(*(part for _, part in some), strict=True)
        columns = zip(*blocks, strict=True)
        yield Full(
            Blocks(*map(list, map(chain.from_iterable, columns))), HeadSamples.joined(samples)
        )


def _pieces(samples: Columns) -> _Pieces:
    ids, windows = samples.series_ids, samples.times_us // WINDOW_US
    is_first = np.ones(len(samples), np.bool_)
    is_first[1:] = (ids[1:] != ids[:-1]) | (windows[1:] != windows[:-1])
    runs = Runs.beginning(is_first)
    blocks = block_of(ids[runs.starts]) * SHARDS + (ids[runs.starts] & (SHARDS - 1))
    changes = np.append(0, np.cumsum(np.diff(blocks) != 0))
    keys = changes << _WINDOW_BITS | windows[runs.starts]
    _, firsts, group_of, sizes = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    return _Pieces(samples, runs, group_of, firsts, sizes)


def _full(pieces: _Pieces, groups: Int64s) -> Iterator[Full]:
    """These groups, some at a time."""
    samples, runs, group_of, firsts, sizes = pieces
    ends = np.cumsum(sizes[groups])
    for some in np.split(groups, np.flatnonzero(np.diff(ends // MOST_WINDOWS)) + 1):
        if len(some) == 0:
            continue
        which = np.isin(group_of, some)
        part = samples if which.all() else samples.picked(runs.spread(which))
        heads = samples.picked(runs.starts[firsts[some]])
        yield Full(
            Blocks(
                (heads.series_ids & (SHARDS - 1)).tolist(),
                block_of(heads.series_ids).tolist(),
                [from_us(one) for one in (heads.times_us // WINDOW_US * WINDOW_US).tolist()],
            ),
            HeadSamples(
                samples.series_ids[runs.starts[which]],
                runs.counts[which],
                part.times_us,
                part.values,
            ),
        )
