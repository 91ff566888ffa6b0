"""Rollups: what the samples of five minutes, or of an hour, come to."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from infrawatch.model.samples import Bools, Columns, Float64s, Int64s, Positions, is_stale
from infrawatch.model.timerange import US
from infrawatch.store.ragged import Runs, are_first

_EXPONENTS = (0, 3, 6)
"""Values with so many decimals are added as integers: almost all that anybody measures."""


ROW_BUCKETS = 24
"""Of a series in a row of their table: a window in five minutes, or a day in hours."""


class Resolution(NamedTuple):
    """Buckets of `table` are `bucket_us` long."""

    table: str
    bucket_us: int

    @property
    def row_us(self) -> int:
        """What a row covers, from a multiple of it on."""
        return ROW_BUCKETS * self.bucket_us


FIVE_MINUTES = Resolution("rollups_5m", 300 * US)
HOUR = Resolution("rollups_1h", 3600 * US)

RESOLUTIONS = (HOUR, FIVE_MINUTES)
"""The coarsest first; each is a multiple of the next."""


class Buckets(NamedTuple):
    """Buckets that hold samples, by (series, time); a time is where a bucket begins.

    Stale markers are no samples. A NaN among them makes sum, min and max NaN.
    """

    series_ids: Int64s
    times_us: Int64s
    counts: Float64s
    sums: Float64s
    least: Float64s
    largest: Float64s
    lasts: Float64s

    @classmethod
    def of(cls, columns: Columns, bucket_us: int) -> Self:
        """Roll up samples that are sorted by (series, time) and unique."""
        is_gone = is_stale(columns.values)
        samples = columns.picked(~is_gone) if is_gone.any() else columns
        runs = cls.runs_of(samples, bucket_us)
        with np.errstate(over="ignore", invalid="ignore"):
            return cls(
                samples.series_ids[runs.starts],
                samples.times_us[runs.starts] // bucket_us * bucket_us,
                runs.counts.astype(np.float64),
                _sums(samples.values, runs),
                np.minimum.reduceat(samples.values, runs.starts),
                np.maximum.reduceat(samples.values, runs.starts),
                samples.values[runs.lasts],
            )

    @staticmethod
    def runs_of(columns: Columns, bucket_us: int) -> Runs:
        """Which samples share a bucket, of some that come by series, each in order of time."""
        return Runs.beginning(are_first(columns.series_ids, columns.times_us // bucket_us))

    def coarser(self, bucket_us: int) -> "Buckets":
        """The buckets of a multiple of their length that these come to."""
        starts_us = self.times_us // bucket_us * bucket_us
        runs = Runs.beginning(are_first(self.series_ids, starts_us))
        with np.errstate(over="ignore", invalid="ignore"):
            return Buckets(
                self.series_ids[runs.starts],
                starts_us[runs.starts],
                np.add.reduceat(self.counts, runs.starts),
                _sums(self.sums, runs),
                np.minimum.reduceat(self.least, runs.starts),
                np.maximum.reduceat(self.largest, runs.starts),
                self.lasts[runs.lasts],
            )

    @classmethod
    def joined(cls, parts: "Sequence[Buckets]") -> "Buckets":
        """All parts one after the other."""
        columns = zip(cls.of(Columns.empty(), 1), *parts, strict=True)
        return Buckets._make(np.concatenate(column) for column in columns)

    @classmethod
    def sorted(cls, parts: "Sequence[Buckets]") -> "Buckets":
        """All parts together; none has a bucket that another has."""
        joined = cls.joined(parts)
        return joined.picked(np.lexsort((joined.times_us, joined.series_ids)))

    def picked(self, which: Positions | Bools) -> "Buckets":
        """The buckets at these positions, or where the mask is true, in that order."""
        return Buckets._make(column[which] for column in self)

    def runs_within(self, length_us: int) -> Runs:
        """Neighbours of one series in one such length of time, counted from the epoch."""
        return Runs.beginning(are_first(self.series_ids, self.times_us // length_us))


def _sums(values: Float64s, runs: Runs) -> Float64s:
    """Sums; those of decimal fractions are exact, which makes them as short as their terms.

    Others are added pairwise, with an error that a decimal fraction of many digits would take twice
    the space to keep.
    """
    sums = np.add.reduceat(values, runs.starts)
    left = np.arange(len(sums))
    for exponent in _EXPONENTS:
        some = runs.picked(left)
        among, starts = values[some.positions()], Runs.of(some.counts).starts
        power = 10.0**exponent
        scaled = np.rint(among * power)
        totals = np.add.reduceat(np.abs(scaled), starts)
        is_exact = np.logical_and.reduceat(scaled / power == among, starts)
        is_exact &= totals < 2.0**53  # so no sum on the way is rounded
        exact = np.add.reduceat(scaled, starts) / power
        sums[left[is_exact]] = exact[is_exact]
        left = left[~is_exact]
        if left.size == 0:
            break
    return sums
