"""Samples as columns: three arrays of equal length, without an object per sample."""

from collections.abc import Iterator, Sequence
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

_NUMBER_BITS = 63 - SHARD_BITS
_ID_BITS = 2**63 - 1

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
        filled = [one for one in parts if len(one) > 0]
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
    if _is_in_order(columns):
        return columns
    # Samples mostly arrive in order of time, in runs of ascending ids: a stable sort by id alone
    # merges these runs, at a tenth of the cost of sorting by both.
    ordered = columns.picked(np.argsort(columns.series_ids, kind="stable"))
    is_same_series = ordered.series_ids[1:] == ordered.series_ids[:-1]
    distances_us = np.diff(ordered.times_us)
    if (is_same_series & (distances_us < 0)).any():
        ordered = columns.picked(np.lexsort((columns.times_us, columns.series_ids)))
        distances_us = np.diff(ordered.times_us)
    is_last = np.append(~is_same_series | (distances_us != 0), True)  # a value
    return ordered if is_last.all() else ordered.picked(is_last)


def latest_by_shard(columns: Columns) -> Columns:
    """Do the same as `latest_arrivals`, but sort by (shard, series, time)."""
    # The shard, the lowest six bits of an id, becomes the highest.
    places = columns.series_ids >> SHARD_BITS | (columns.series_ids & (SHARDS - 1)) << _NUMBER_BITS
    latest = latest_arrivals(Columns(places, columns.times_us, columns.values))
    ids = latest.series_ids << SHARD_BITS & _ID_BITS | latest.series_ids >> _NUMBER_BITS
    return Columns(ids, latest.times_us, latest.values)


def _is_in_order(columns: Columns) -> bool:
    """Whether samples are already sorted by (series, time) and unique."""
    series_ids, times_us, _ = columns
    follows = series_ids[1:] == series_ids[:-1]
    follows &= times_us[1:] > times_us[:-1]
    follows |= series_ids[1:] > series_ids[:-1]
    return bool(follows.all())


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
