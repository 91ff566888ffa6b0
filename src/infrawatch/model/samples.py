"""Samples as columns: three arrays of equal length, without an object per sample."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.labels import SHARD_BITS, SHARDS
from infrawatch.model.timerange import TimeRange

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
Bools = NDArray[np.bool_]

Positions = NDArray[np.intp]
"""Indexes into another array, in numpy's own index type."""

_MIN_RUN = 4
"""From this many samples of a series in a row, on average, runs are sorted instead of samples."""

_COMPARED = 16
"""Up to this many ids, comparing one by one is cheaper than a binary search for all of them."""

STALE_NAN_BITS = 0x7FF0000000000002
"""Prometheus' stale marker (model/value/value.go): the series ended here. Kept bit for bit."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Samples of any number of series, in order of arrival unless stated otherwise.

    `times_us` are microseconds since the Unix epoch; `values` keep every bit, including NaN
    payloads.
    """

    series_ids: Int64s
    times_us: Int64s
    values: Float64s

    @classmethod
    def empty(cls) -> Self:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))

    @classmethod
    def joined(cls, parts: "Sequence[Columns]") -> "Columns":
        """Concatenate the parts in order."""
        filled = [part for part in parts if len(part) > 0]
        if len(filled) == 1:
            return filled[0]
        if not filled:
            return cls.empty()
        return Columns(*(np.concatenate(column) for column in zip(*filled, strict=True)))

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.series_ids)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Iterate over the columns, in the order of the fields."""
        return iter((self.series_ids, self.times_us, self.values))

    def picked(self, which: NDArray[np.intp] | NDArray[np.bool_] | slice) -> "Columns":
        """Return the samples at these positions, in that order, or where the mask is true."""
        return Columns(self.series_ids[which], self.times_us[which], self.values[which])

    def within(self, span: TimeRange) -> "Columns":
        """Return the samples in the span."""
        return self.picked((self.times_us >= span.start_us) & (self.times_us < span.end_us))


def latest_arrivals(columns: Columns) -> Columns:
    """Sort by (series, time) and keep, of samples that share both, the one that arrived last.

    Takes samples in order of arrival, earliest first.
    """
    return columns if _is_in_order(columns) else _latest(columns, lambda series_ids: series_ids)


def latest_by_shard(columns: Columns) -> Columns:
    """Do the same as `latest_arrivals`, but sort by (shard, series, time)."""
    if len(columns) == 0:
        return columns
    bits = (int(columns.series_ids.max()) >> SHARD_BITS).bit_length()
    # The shard, the lowest six bits of an id, becomes the highest.
    return _latest(columns, lambda ids: (ids & (SHARDS - 1)) << bits | ids >> SHARD_BITS)


def _is_in_order(columns: Columns) -> bool:
    """Whether samples are already sorted by (series, time) and unique."""
    series_ids, times_us, _ = columns
    follows = series_ids[1:] == series_ids[:-1]
    follows &= times_us[1:] > times_us[:-1]
    follows |= series_ids[1:] > series_ids[:-1]
    return bool(follows.all())


def _latest(columns: Columns, to_places: Callable[[Int64s], Int64s]) -> Columns:
    """Sort by (place of the series, time); keep the last of samples that share both."""
    ordered = _by_place(columns, to_places)
    series_ids, times_us, _ = ordered
    # Times seldom fail to ascend, but where the next series begins.
    ends = np.flatnonzero(times_us[1:] <= times_us[:-1])
    ends = ends[series_ids[ends] == series_ids[ends + 1]]
    if ends.size == 0:
        return ordered
    if (times_us[ends] > times_us[ends + 1]).any():
        ordered = columns.picked(np.lexsort((columns.times_us, to_places(columns.series_ids))))
        series_ids, times_us, _ = ordered
    is_last = np.ones(len(ordered), np.bool_)
    np.not_equal(times_us[1:], times_us[:-1], out=is_last[:-1])
    is_last[:-1] |= series_ids[1:] != series_ids[:-1]
    return ordered.picked(is_last)


def _by_place(columns: Columns, to_places: Callable[[Int64s], Int64s]) -> Columns:
    """Return the samples in the stable order by place of the series."""
    series_ids = columns.series_ids
    changes = np.count_nonzero(series_ids[1:] != series_ids[:-1])
    if _MIN_RUN * changes >= len(series_ids):
        return columns.picked(_argsort(to_places(series_ids)))
    # Agents that were away send many samples of a series in a row: only these runs are sorted.
    bounds = series_bounds(series_ids)
    starts, counts = bounds[:-1], np.diff(bounds)
    order = _argsort(to_places(series_ids[starts]))
    if (order[1:] > order[:-1]).all():
        return columns
    if (counts == counts[0]).all():
        # Rows of a matrix are copied at a third of the cost of their numbers one by one.
        rows = (column.reshape(len(counts), -1)[order] for column in columns)
        return Columns(*(row.reshape(-1) for row in rows))
    starts, counts = starts[order], counts[order]
    positions = np.arange(len(series_ids))
    positions += np.repeat(starts - (np.cumsum(counts) - counts), counts)
    return columns.picked(positions)


def _argsort(places: NDArray[np.integer[Any]]) -> Positions:
    """Return the stable order of these numbers."""
    least = places.min()
    if int(places.max()) - int(least) < 1 << 16:
        # A stable sort of 16-bit integers is a radix sort: linear.
        places = (places - least).astype(np.uint16)
    return np.argsort(places, kind="stable")


def series_bounds(series_ids: Int64s) -> NDArray[np.intp]:
    """Return the start of each series in a sorted column, and the end of the last.

    Series i of the column occupies positions `bounds[i]` to `bounds[i + 1]`, exclusive.
    """
    if len(series_ids) == 0:
        return np.zeros(1, np.intp)
    starts = np.flatnonzero(series_ids[1:] != series_ids[:-1]) + 1
    return np.concatenate(([0], starts, [len(series_ids)])).astype(np.intp)


def is_among(series_ids: Int64s, ids: Int64s) -> NDArray[np.bool_]:
    """Where a column holds one of `ids`, which are in ascending order."""
    if len(ids) <= _COMPARED:
        is_found = np.zeros(len(series_ids), np.bool_)
        for series_id in ids:
            is_found |= series_ids == series_id
        return is_found
    places = np.searchsorted(ids, series_ids)
    places[places == len(ids)] = 0
    return np.equal(ids[places], series_ids)


def is_stale(values: Float64s) -> NDArray[np.bool_]:
    """Where the value is Prometheus' stale marker, as opposed to any other NaN."""
    return np.equal(values.view(np.int64), STALE_NAN_BITS)
